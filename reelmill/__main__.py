"""`python -m reelmill` is the `reelmill` command."""

from reelmill.pipelines.cli import main

if __name__ == "__main__":
    main()
