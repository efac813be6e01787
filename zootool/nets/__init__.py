"""Networks as architectures: of known families, declared, inferred from checkpoints, traced from modules; and back.

Imports from architecture and what is below it; whoever reads a declaration or a catalog needs no torch.
"""
