"""An operator of IBM ado that chooses what to measure next (`operator`), and its choosing without ado (`ask_tell`)."""
