"""The training forward pass: a decoder's hidden states at chosen states, without padding or repetition.

`hidden_at` asks `Decoder.of` whether it knows the model by its parts (Qwen3, Qwen2, Llama and their like, as
transformers builds them); a model that it does not know runs as transformers wrote it.
"""

from statewise.packed_forward.decoder import Decoder
from statewise.packed_forward.head import Head
from statewise.packed_forward.packing import Packing, pack

__all__ = ["Decoder", "Head", "Packing", "pack"]
