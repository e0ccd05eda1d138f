"""How much a run loses when shoppers type carelessly, and whether planted products can reach the top."""
