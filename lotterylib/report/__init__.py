"""How the results are told: tables, findings, figures, pages."""
