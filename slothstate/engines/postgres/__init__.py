"""The engine for many machines: a schema of a PostgreSQL database is one store. Needs psycopg."""
