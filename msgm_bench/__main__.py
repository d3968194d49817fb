"""``python -m msgm_bench``, as launchers of several processes start it."""

from msgm_bench.cli.main import main

if __name__ == "__main__":
    main()
