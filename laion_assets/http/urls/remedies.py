"""How to allow a URL that the address guard refused, and how to retry its rows."""

from laion_assets.reasons import Reason

_ALLOW = {
    Reason.BLOCKED_ADDRESS: (
        'To allow a host of your own network, set resolve = {{ "{host}" = "ADDRESS:PORT" }}, or its network with '
        'allow_networks = ["{network}"], in [{dataset}] of laion-assets.toml'
    ),
    Reason.BLOCKED_PORT: (
        "To allow the port, add it to allowed_ports in [{dataset}.images.fetch] of laion-assets.toml, or name the host "
        "in resolve"
    ),
}


def describe_remedy(reason: str, dataset: str, host: str = "HOST", network: str = "10.0.0.0/8") -> str:
    """Return the sentence that names the settings and the command for refused rows of a dataset; else an empty text."""
    if reason not in _ALLOW:
        return ""
    allow = _ALLOW[Reason(reason)].format(host=host, network=network, dataset=dataset)
    return f"{allow}. Then retry these rows: laion-assets materialize --dataset {dataset} image_shards --retry failed."
