"""Whether a login tells unknown users from wrong passwords by its time.

python -m bench.login
"""

import argparse
import statistics
import time

import httpx2

from app.accounts.attempts import FREE_GUESSES
from bench.product import Product, running_product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logins", type=int, default=100, help="of each kind, interleaved")
    options = parser.parse_args()
    with running_product(LOG_LEVEL="WARNING") as product:
        known, unknown = [], []
        for number in range(options.logins):
            if number % FREE_GUESSES == 0:  # after those, an account's next guess must wait
                email = sign_up(product)
            known.append(time_login(product.client, email))
            unknown.append(time_login(product.client, f"x{email}"))
    print(
        f"wrong password: median {statistics.median(known):.1f} ms,"
        f" unknown user: median {statistics.median(unknown):.1f} ms,"
        f" ratio {statistics.median(unknown) / statistics.median(known):.3f}"
    )


def sign_up(product: Product) -> str:
    """Add a user and return their address."""
    product.sign_up()
    return str(product.client.get("/api/v1/auth/me").json()["user"]["email"])


def time_login(client: httpx2.Client, email: str) -> float:
    """Return the milliseconds of one refused login."""
    started = time.perf_counter()
    response = client.post(
        "/api/v1/auth/login", data={"username": email, "password": "not the password"}
    )
    assert response.status_code == 401, response.text
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
