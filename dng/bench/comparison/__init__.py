"""Methods against each other on one zoo, at equal budget: the same networks, updates, selection and learning rates."""
