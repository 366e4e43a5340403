"""Who is calling: users, organizations, sign-ins, and how a credential becomes a Principal."""
