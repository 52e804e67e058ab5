"""Which tokens are hidden and scored: stateless random numbers, masked language modelling, the state mask."""
