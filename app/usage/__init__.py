"""Plans, limits, prices, budgets and the record of what was used."""
