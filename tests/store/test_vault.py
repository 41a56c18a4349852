"""Secrets that have to be read again: sealed where results are, and carried along when that changes."""

import pytest
from tests.store.scenes import NOW

from pithead.exchange.ports import Tx
from pithead.exchange.webhook_ports import Delivery, Webhook
from pithead.store.keyring import Keyring, new_wrapped_key
from pithead.store.keys import DatabaseKey
from pithead.store.sealing import Broken
from pithead.store.vault import Vault, reseal_secrets

SECRET = "whsec_c2VjcmV0"


def sealed() -> Vault:
    keyring, key = Keyring(), DatabaseKey(b"k" * 32)
    keyring.fill([new_wrapped_key(key, NOW)], key)
    return Vault(keyring)


def hook(secret: bytes, **over: object) -> Webhook:
    given = {"seq": 0, "id": "webhook_1", "account": 7, "url": "https://example.org/", "events": "job.failed",
             "description": "", "secret": secret, "created_at": NOW} | over  # fmt: skip
    return Webhook(**given)  # type: ignore[arg-type]


def test_a_sealed_secret_opens_under_its_name_and_its_key_alone() -> None:
    vault = sealed()
    stored = vault.seal(SECRET, "webhook_1")
    assert SECRET.encode() not in stored
    assert vault.seal(SECRET, "webhook_1") != stored
    assert vault.open(stored, "webhook_1") == SECRET
    for other, content in ((vault, stored[:-1] + bytes([stored[-1] ^ 1])), (sealed(), stored), (Vault(None), stored)):
        with pytest.raises(Broken):
            other.open(content, "webhook_1")
    with pytest.raises(Broken):
        vault.open(stored, "webhook_2")


def test_what_was_stored_before_encryption_is_still_read() -> None:
    plain = Vault(None).seal(SECRET, "webhook_1")
    assert sealed().open(plain, "webhook_1") == SECRET


def test_encrypting_and_decrypting_carry_the_secrets_along(tx: Tx) -> None:
    plain, vault = Vault(None), sealed()
    tx.add_webhook(hook(plain.seal(SECRET, "webhook_1"), old_secret=plain.seal("whsec_b2xk", "webhook_1")))
    tx.add_webhook(hook(plain.seal(SECRET, "webhook_2"), id="webhook_2"))
    reseal_secrets(tx, plain, vault)
    for one in tx.all_webhooks():
        assert SECRET.encode() not in one.secret
        assert vault.open(one.secret, one.id) == SECRET
    reseal_secrets(tx, vault, plain)
    first, second = tx.all_webhooks()
    assert first.old_secret is not None
    assert [plain.open(first.secret, first.id), plain.open(first.old_secret, first.id)] == [SECRET, "whsec_b2xk"]
    assert second.old_secret is None


def message(webhook: Webhook, name: str, due_at: float = NOW) -> Delivery:
    return Delivery(0, name, webhook.seq, "job.failed", b"{}", NOW, "pending", due_at, since=NOW)


def test_messages_are_due_by_webhook_and_none_for_one_that_rests_or_is_disabled(tx: Tx) -> None:
    busy, quiet = tx.add_webhook(hook(b"x")), tx.add_webhook(hook(b"x", id="webhook_2", account=8))
    resting = tx.add_webhook(hook(b"x", id="webhook_3", resume_at=NOW + 1))
    disabled = tx.add_webhook(hook(b"x", id="webhook_4", account=9, disabled_at=NOW))
    for number in range(5):
        tx.add_delivery(message(busy, f"busy_{number}"))
    tx.add_delivery(message(quiet, "quiet"))
    tx.add_delivery(message(quiet, "later", NOW + 60))
    for webhook in (resting, disabled):
        tx.add_delivery(message(webhook, f"no_{webhook.id}"))
    assert {one.id for one in tx.due_deliveries(NOW, 2, 10)} == {"busy_0", "busy_1", "quiet"}
    assert len(tx.due_deliveries(NOW, 9, 4)) == 4
    assert tx.has_due_delivery(NOW)
    assert sorted(tx.hooked_accounts()) == [7, 8]
    tx.delete_webhook(busy.seq)
    assert {one.id for one in tx.due_deliveries(NOW, 9, 10)} == {"quiet"}
    assert tx.deliveries_page(busy.seq, None, None, 10) == []
