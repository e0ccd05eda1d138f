"""How fast a catalog gets into OpenSearch, how much embedding slows it, how much memory it takes."""
