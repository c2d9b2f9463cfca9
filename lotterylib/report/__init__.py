"""How the results are told.

* what was found: `results` (one table), `evidence` (intervals and verdicts), `findings`
  (sentences), `comparisons` and `tables`, `overview` and `holds` (over tasks), `lottery`;
* what the authors found: `paper` (their numbers), `imported` (their masks), `audit`,
  `audit_tables` and `audit_page` (both compared), `differences` (their text and their code);
* how it is shown: `figures`, `pictures` (to act on), `pages` (the templates, run);
* what lies beside the pages: `published`, and in `identity` the request that made it.
"""
