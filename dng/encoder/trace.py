"""The walk over a dynamic graph, event by event: what each timestamp adds and deletes (paper, equation 3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dng.encoder.dng_encoder import DNGEncoder
from zootool.architecture import Architecture
from zootool.graph import GraphBatch


@dataclass(frozen=True)
class Event:
    """The event at timestamp `t`. Nodes are named by the timestamp of their layer, edges by that which they lead to.

    `nodes_added` holds layer t, and the layers whose nodes a residual connection adds again. `snapshot` are the
    layers whose nodes are there behind the event. `num_nodes` and `num_edges` count what is added for the first time.
    """

    t: int
    nodes_added: tuple[int, ...]
    nodes_deleted: tuple[int, ...]
    edges_added: tuple[int, ...]
    edges_deleted: tuple[int, ...]
    snapshot: tuple[int, ...]
    num_nodes: int
    num_edges: int


@dataclass(frozen=True)
class TracedEvent:
    """An event, and the memories of the nodes that it adds: (batch, n_t, dim)."""

    event: Event
    memory: Float[Tensor, "batch nodes dim"]


def events(architecture: Architecture) -> list[Event]:
    """The events 1..L of networks of one architecture.

    Edges are deleted one event behind their own: e^(t-1) at t, as equation 3 says (its prose says e^(t-2)).
    """
    found, before = [], (0,)
    for t, timestamp in enumerate(architecture.timestamps, start=1):
        again = {residual.source for residual in timestamp.residuals}
        snapshot = tuple(sorted({t - 1, t} | again))
        found.append(
            Event(
                t=t,
                nodes_added=tuple(layer for layer in snapshot if layer not in before),
                nodes_deleted=tuple(layer for layer in before if layer not in snapshot),
                edges_added=(t,),
                edges_deleted=(t - 1,) if t > 1 else (),
                snapshot=snapshot,
                num_nodes=timestamp.num_nodes,
                num_edges=timestamp.num_edges,
            )
        )
        before = snapshot
    return found


@torch.no_grad()
def trace(encoder: DNGEncoder, graph: GraphBatch) -> list[TracedEvent]:
    """The encoder's walk over `graph`, event by event; the last event's memory is the encoder's output."""
    memories = encoder.memories(graph)
    return [TracedEvent(event, memories[event.t]) for event in events(graph.architecture)]
