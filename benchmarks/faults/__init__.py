"""What becomes of searches while something is broken, as the fault tests record it."""
