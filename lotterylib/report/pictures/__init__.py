"""Pictures that readers act on: `film`, `hunt`, `words` and `comparison`.

Each is one function from results to HTML, in the module of its name; the script of its name in
`book/_static` draws it. Scores, intervals and maps are computed here; a browser only counts, ranks
and divides them.
"""
