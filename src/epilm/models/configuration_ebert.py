"""Configuration of EBERT and DBERT. Exported models carry this file, so it imports transformers alone."""

from transformers import PretrainedConfig

NUM_DNA_SPECIAL = 5  # [PAD] [UNK] [CLS] [SEP] [MASK], then the k-mers
NUM_STATE_SPECIAL = 3  # [PAD] [MASK] [UNK], then the states


class EbertConfig(PretrainedConfig):
    """A BERT encoder over k-mers and, for EBERT, the epigenome state of each of them.

    Args:
        k, stride: bases of a k-mer (1 to 8), and from one token to the next.
        dna_vocab_size: derived from k; may be given, but must then agree.
        num_states: states of the alphabet, without the special ids; 0 makes a DBERT, which reads DNA alone.
        state_names: name of state 0, 1, ...; ``num_states`` is their number.
        bin_bp: bases of an epigenome bin.
        combine: how DNA and state embeddings meet: ``sum``, or ``concat`` followed by a projection to the hidden size.
        max_position_embeddings: most tokens of an input, CLS and SEP counted.

    The other settings are those of :class:`transformers.BertConfig`; the defaults are BERT-base.

    Raises:
        ValueError: settings that contradict each other.
    """

    model_type = "ebert"
    attribute_map = {"vocab_size": "dna_vocab_size"}

    def __init__(
        self,
        k=7,
        stride=7,
        dna_vocab_size=None,
        num_states=None,
        state_names=None,
        bin_bp=200,
        combine="sum",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        hidden_act="gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        max_position_embeddings=512,
        initializer_range=0.02,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        tie_word_embeddings=True,
        **kwargs,
    ):
        state_names = list(state_names or [])
        self.k = k
        self.stride = stride
        self.dna_vocab_size = NUM_DNA_SPECIAL + 4**k if dna_vocab_size is None else dna_vocab_size
        self.num_states = len(state_names) if num_states is None else num_states
        self.state_names = state_names
        self.bin_bp = bin_bp
        self.combine = combine
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self._check()
        # What transformers' BertModel also reads; an encoder over one segment has no other value for them.
        kwargs.update(type_vocab_size=1, is_decoder=False, add_cross_attention=False, use_cache=False)
        kwargs.update(pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings)
        super().__init__(**kwargs)

    def _check(self):
        if not 1 <= self.k <= 8:
            raise ValueError(f"k={self.k} is out of range: k-mers of 1 to 8 bases are supported. Set k to 6 or 7.")
        if self.stride < 1:
            raise ValueError(f"stride={self.stride} is out of range: it must be at least 1.")
        if self.dna_vocab_size != NUM_DNA_SPECIAL + 4**self.k:
            raise ValueError(
                f"dna_vocab_size={self.dna_vocab_size} contradicts k={self.k}, whose vocabulary has "
                f"{NUM_DNA_SPECIAL + 4**self.k} ids. Leave dna_vocab_size out."
            )
        if self.num_states < 0 or (self.state_names and len(self.state_names) != self.num_states):
            raise ValueError(
                f"num_states={self.num_states} contradicts the {len(self.state_names)} state_names. "
                "Give the names alone, or as many names as states."
            )
        if self.combine not in ("sum", "concat"):
            raise ValueError(f"combine={self.combine!r} is unknown. Allowed: 'sum', 'concat'.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}. "
                "64 per head is usual."
            )

    @property
    def state_vocab_size(self):
        """Number of state ids, the special ones included; 0 for a DBERT."""
        return NUM_STATE_SPECIAL + self.num_states if self.num_states else 0
