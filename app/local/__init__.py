"""The embedded stack: Postgres, Redis, one worker and the API as one command.

`postgres` and `redis` run the binaries from the wheels on their own folder; `stack` puts them,
the worker and the API together; `supervisor` keeps them alive and ends them in order; `process`,
`folders` and `privileges` are what these need of the operating system; `doctor` says what is
missing. Everything runs in the main thread: a child dies with the thread that started it.
"""
