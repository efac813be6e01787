import pytest
import torch
from torch import nn

from tests.zootool.nets.checkpoints import Net, inferred, sorted_state
from zootool.errors import FormatError


def tensors(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (tensors(fc__lora_A__weight=(4, 4), fc__lora_B__weight=(4, 4)), "an adapter"),
        (tensors(lora_unet_fc__lora_down__weight=(2, 4), lora_unet_fc__lora_up__weight=(4, 2)), "an adapter"),
        (tensors(fc__hada_w1_a=(4, 4), fc__hada_w1_b=(4, 4)), "an adapter"),
        (tensors(fc__lokr_w1=(4, 4)), "an adapter"),
        (tensors(state__0__exp_avg=(4, 4), state__0__exp_avg_sq=(4, 4)), "an optimizer's state"),
        (nn.LSTM(4, 4).state_dict(), "a recurrent layer"),
        (Net(gru=nn.GRU(4, 4), fc=nn.Linear(4, 2)).state_dict(), "a recurrent layer"),
        (nn.MultiheadAttention(4, 2).state_dict(), "attention"),
        (Net(q=nn.Linear(4, 4), k=nn.Linear(4, 4), v=nn.Linear(4, 4)).state_dict(), "attention"),
        (Net(q_proj=nn.Linear(4, 4), o=nn.Linear(4, 4)).state_dict(), "attention"),
        (Net(wte=nn.Embedding(4, 4), fc=nn.Linear(4, 4)).state_dict(), "an embedding"),
        (tensors(fc__qweight=(4, 4), fc__scales=(4, 4)), "quantised weights"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)).state_dict(), "a reparametrised weight"),
        (tensors(fc__weight_g=(4, 1), fc__weight_v=(4, 4)), "a reparametrised weight"),
        (tensors(_flat_param=(40,)), "a flattened parameter"),
        (Net(fc=nn.Linear(4, 4), shortcut=nn.Linear(4, 4)).state_dict(), "residuals"),
        (Net(fc=nn.Linear(4, 4), res1=nn.Linear(4, 4)).state_dict(), "residuals"),
        (Net(generator=nn.Linear(4, 4), discriminator=nn.Linear(4, 1)).state_dict(), "several networks"),
        (Net(deconv1=nn.ConvTranspose2d(4, 4, 3), out=nn.Conv2d(4, 1, 1)).state_dict(), "a transposed convolution"),
        (Net(fc=nn.Linear(4, 4), fc_mu=nn.Linear(4, 4), fc_logvar=nn.Linear(4, 4)).state_dict(), "two outputs"),
        (tensors(n_averaged=(), module__fc__weight=(4, 4)), "an average's counter"),
        (Net(model=nn.Linear(4, 4), criterion=nn.Linear(4, 4)).state_dict(), "a loss or a metric"),
        (Net(experts=nn.ModuleList([nn.Linear(4, 4)]), fc=nn.Linear(4, 4)).state_dict(), "parallel branches"),
    ],
)
def test_what_only_happens_to_chain_is_refused_by_name(state: dict[str, torch.Tensor], what: str) -> None:
    for given in (state, sorted_state(state)):
        with pytest.raises(FormatError, match=f"is named like {what}.*, so no chain of layers"):
            inferred(given)


def test_one_of_several_networks_is_chosen_as_the_refusal_says() -> None:
    both = Net(a=Net(actor=nn.Sequential(nn.Linear(4, 4)), critic=nn.Sequential(nn.Linear(4, 1))))
    with pytest.raises(FormatError, match=r"several networks in one file.*--weights a\.actor takes this one"):
        inferred(both.state_dict())


def test_blocks_that_may_have_residuals_are_refused() -> None:
    blocks = nn.ModuleList([Net(fc1=nn.Linear(4, 8), fc2=nn.Linear(8, 4)) for _ in range(2)])
    with pytest.raises(FormatError, match=r"'blocks\.0' is a block of 2 layers with as many outputs as inputs"):
        inferred(Net(blocks=blocks, head=nn.Linear(4, 2)).state_dict())


def test_names_that_every_network_shares_say_nothing() -> None:
    state = {f"attention_net.{key}": value for key, value in nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
             .state_dict().items()}  # fmt: skip
    assert inferred(state).architecture.node_counts == (4, 4, 2)
