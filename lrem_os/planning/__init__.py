"""Capacity and cost before anything is bought: formulas, a calibration of the machine at hand, a simulation."""
