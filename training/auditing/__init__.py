"""How an operator's errors on molecules that it has not seen depend on what it has seen."""
