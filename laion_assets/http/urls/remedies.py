"""How to allow a URL that the address guard refused, and how to retry its rows."""

from laion_assets.dataset.settings.resolution import settings_section
from laion_assets.reasons import Reason

_ALLOW = {
    Reason.BLOCKED_ADDRESS: (
        'To allow a host of your own network, set resolve = {{ "{host}" = "{endpoint}" }}, or its network with '
        'allow_networks = ["{network}"], in [{section}] of laion-assets.toml'
    ),
    Reason.BLOCKED_PORT: (
        "To allow the port, add it to allowed_ports in [{section}.images.fetch] of laion-assets.toml, or name the host "
        "in resolve"
    ),
}


def describe_remedy(reason: str, dataset: str, host: str = "HOST", port: int | str = "PORT", address: str = "") -> str:
    """Return the sentence that names the settings and the command for refused rows of a dataset; else an empty text.

    `host` and `port` are those of a refused URL, `address` is the refused address of the host.
    """
    if reason not in _ALLOW:
        return ""
    is_ipv6 = ":" in address
    allow = _ALLOW[Reason(reason)].format(
        host=host,
        endpoint=f"{f'[{address}]' if is_ipv6 else address or 'ADDRESS'}:{port}",
        network=f"{address}/{128 if is_ipv6 else 32}" if address else "10.0.0.0/8",
        section=settings_section(dataset),
    )
    return f"{allow}. Then retry these rows: laion-assets materialize --dataset {dataset} image_shards --retry failed."


def describe_retry(dataset: str) -> str:
    """Return the sentence for rows that were refused before the settings of the guard changed."""
    return (
        "The settings that allow hosts, networks and ports have changed since. Retry these rows: laion-assets "
        f"materialize --dataset {dataset} image_shards --retry newly_allowed."
    )
