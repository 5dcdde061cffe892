"""Choice of compounds: candidates, criteria, selection and division by scaffold."""
