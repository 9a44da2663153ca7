"""Ask a run folder by SQL; answers are pyarrow tables: python ask.py OUT"""

import sys

import reelmill

run = reelmill.open_run(sys.argv[1])  # a run folder, such as out/sample

print(run.sql("SELECT status, rule, count(*) AS samples FROM samples GROUP BY ALL ORDER BY samples DESC").to_pylist())

bounds = [0.01, 0.02, 0.04]
query = "SELECT count(*) AS clips FROM samples WHERE kind = 'video' AND motion_score >= ?"
print({bound: run.sql(query, [bound])["clips"][0].as_py() for bound in bounds})

rule = run.recipe.rules["motion"]
print(f"the recipe keeps {rule.expr} from {rule.min} to {rule.max}")
