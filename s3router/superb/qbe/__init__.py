"""Query by example: spoken queries in spoken documents, untrained."""
