"""From base codes and epigenome bins to model tokens: k-mers, states, reverse complement; torch and numpy."""
