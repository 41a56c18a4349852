"""Every call of the HTTP API, once: the server binds its handlers to this table and the OpenAPI document is made from it."""

from typing import Any, Literal

import msgspec

from pithead.wire import admin, events, jobs, ledger, miners, payouts, webhooks, why

#: Who may call: anybody, a miner on its own path, a client, the operator, or whoever has a key.
Audience = Literal["public", "miner", "client", "operator", "account"]


class Query(msgspec.Struct, frozen=True):
    """A query parameter."""

    name: str
    #: JSON type, and the bounds if it is a number.
    type: Literal["string", "integer", "number"]
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One call."""

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    audience: Audience
    summary: str
    response: Any
    request: Any = None
    #: The request may be left out altogether.
    body_optional: bool = False
    status: int = 200
    #: Problem statuses beside those that every call of the audience can have.
    problems: tuple[int, ...] = ()
    query: tuple[Query, ...] = ()
    #: Counts against the limit of job operations too.
    job_operation: bool = False
    #: The answer carries a secret, shown this once.
    secret: bool = False
    #: Takes a `Lease-Token`.
    lease_token: bool = False
    #: Takes an `Upload-Offset`.
    resumable: bool = False
    #: The request or the response is bytes, not JSON.
    raw_request: bool = False
    raw_response: bool = False
    #: The operator may call it too, about anybody's.
    operator_too: bool = False
    #: The response is a stream of server-sent events; `response` is the shape of their data.
    streams: bool = False
    #: Other media types that it answers with, for those who ask for one by `Accept`.
    also: tuple[str, ...] = ()

    @property
    def idempotent(self) -> bool:
        """Takes an `Idempotency-Key`."""
        return self.method == "POST"


_CURSOR = Query("cursor", "string", "Where the page before ended: its `next_cursor`.")
_LIMIT = Query("limit", "integer", "How many at the most.", 1, 200)
_WAIT = Query("wait", "number", "Seconds to hold the call until there is something to tell.", 0, 60)
_LASTING = Query(
    "wait", "number", "Seconds after which the stream ends; it can be gone on with. 0: what there is now.", 0, 86_400
)
_FORMAT = Query("format", "string", "`csv` is the same as `Accept: text/csv`; the whole from the cursor on, unless `limit` says less.",
                choices=("json", "csv"))  # fmt: skip
_CSV = ("text/csv",)
_HELD = Query("account", "string", "`balance`: what can be spent. `held`: what is set aside for jobs.",
              choices=("balance", "held"))  # fmt: skip
_MINER = "/v1/miners/{miner_id}"
_JOB = _MINER + "/jobs/{job_id}"
_FILE = "/v1/files/{sha256}"
_PAYOUT = "/v1/admin/payouts/{payout_id}"
_WEBHOOK = "/v1/webhooks/{webhook_id}"
_DELIVERY_STATES = ("pending", "delivered", "failed")
_PAYOUT_STATES = ("requested", "approved", "paid", "rejected")
_STATES = ("queued", "assigned", "running", "uploading", "completed", "failed", "cancelled", "expired")
_MINER_STATES = ("pending", "active", "draining", "suspended", "offline", "retired")


def _e(name: str, method: Any, path: str, audience: Audience, summary: str, response: Any, **more: Any) -> Endpoint:
    return Endpoint(name=name, method=method, path=path, audience=audience, summary=summary, response=response, **more)


ENDPOINTS: tuple[Endpoint, ...] = (
    # The Miner API: the fixed part, then ours.
    _e("register_miner", "POST", "/v1/miners", "public", "Register a machine", miners.Registered,
       request=miners.RegisterMiner, status=201, problems=(403, 422, 429), secret=True),
    _e("update_miner", "PUT", _MINER, "miner", "Change the registration", miners.MinerView,
       request=miners.UpdateMiner, problems=(409, 422)),
    _e("heartbeat", "POST", _MINER + "/heartbeat", "miner", "Say that the miner is there; renew its leases",
       miners.HeartbeatAnswer, request=miners.Heartbeat, body_optional=True, problems=(422,)),
    _e("available_jobs", "GET", _MINER + "/jobs/available", "miner", "The queued jobs that fit, the best first",
       miners.Available, problems=(422,), query=(Query("limit", "integer", "How many at the most.", 1, 100), _WAIT)),
    _e("accept_job", "POST", _JOB + "/accept", "miner", "Take a job under a lease", miners.Assignment,
       problems=(409,), job_operation=True, lease_token=True),
    _e("complete_job", "POST", _JOB + "/complete", "miner", "Deliver and be paid", miners.Completed,
       request=miners.Complete, problems=(409, 422), job_operation=True, lease_token=True),
    _e("miner_orders", "GET", _MINER + "/orders", "miner", "What a heartbeat would tell, as soon as there is something else to hear",
       miners.Orders, problems=(422,), query=(
           Query("after", "string", "The `version` of the answer before; without it the call is answered at once."), _WAIT)),
    _e("miner_stats", "GET", _MINER + "/stats", "miner", "What the miner has done", miners.Stats),
    _e("get_miner", "GET", _MINER, "miner", "The miner as it stands", miners.MinerView),
    _e("why_miner", "GET", _MINER + "/why", "miner", "Which queued jobs the miner does not get, why, and what would change that",
       why.MinerWhy, operator_too=True),
    _e("deregister_miner", "DELETE", _MINER, "miner", "End the registration for good: what the miner holds goes back, and its key ends",
       miners.MinerView),
    _e("fail_job", "POST", _JOB + "/fail", "miner", "Say that the work could not be done", miners.Returned,
       request=miners.Fail, body_optional=True, problems=(409, 422), job_operation=True, lease_token=True),
    _e("release_job", "POST", _JOB + "/release", "miner", "Hand a job back undone; the attempt is not counted",
       miners.Returned, problems=(409,), job_operation=True, lease_token=True),
    _e("report_progress", "POST", _JOB + "/progress", "miner", "Say how far the work is", miners.Progressed,
       request=miners.Progress, body_optional=True, problems=(409, 422), lease_token=True),
    _e("upload_result", "PUT", _JOB + "/result", "miner", "Send the bytes of the result", miners.Uploaded,
       raw_request=True, problems=(409,), lease_token=True, resumable=True),
    _e("upload_state", "GET", _JOB + "/result", "miner", "How far the upload of the result is", miners.UploadState,
       problems=(409,), lease_token=True),
    _e("get_input_file", "GET", _JOB + "/files/{sha256}", "miner", "The bytes of an input file of a job that the miner holds; ranges work",
       bytes, raw_response=True, problems=(409, 416), lease_token=True),
    _e("earnings", "GET", _MINER + "/earnings", "miner", "What the miner was paid, by day, model or client",
       ledger.Earnings, problems=(422,), also=_CSV, query=(
           Query("by", "string", "What to add up by; `day` unless said.", choices=("day", "model", "client")),
           Query("from", "number", "Only what was paid at this instant or later.", 0),
           Query("to", "number", "Only what was paid before this instant.", 0), _FORMAT)),
    _e("request_payout", "POST", _MINER + "/payouts", "miner", "Ask to be paid out", payouts.PayoutView,
       request=payouts.RequestPayout, body_optional=True, status=201, problems=(409, 422)),
    _e("my_payouts", "GET", _MINER + "/payouts", "miner", "The miner's balance and payouts, the newest first",
       payouts.MinerPayouts, problems=(422,), query=(_LIMIT, _CURSOR)),
    _e("receipt_keys", "GET", "/v1/receipt-keys", "public", "What receipts are checked with", miners.ReceiptKeys),
    # The client's side.
    _e("submit_job", "POST", "/v1/jobs", "client", "Submit a job", jobs.Submitted,
       request=jobs.SubmitJob, status=201, problems=(402, 422)),
    _e("submit_batch", "POST", "/v1/jobs/batch", "client", "Submit up to 1,000 jobs, all or none",
       jobs.SubmittedBatch, request=jobs.SubmitBatch, status=201, problems=(402, 422)),
    _e("list_jobs", "GET", "/v1/jobs", "client", "The client's jobs, the newest first", jobs.JobPage,
       problems=(422,), query=(
           Query("status", "string", "Only jobs in this state.", choices=_STATES),
           Query("model", "string", "Only jobs of this model."), _LIMIT, _CURSOR)),
    _e("get_job", "GET", "/v1/jobs/{job_id}", "client", "A job as it stands; with `wait`, once it is finished or the time is up",
       jobs.JobView, problems=(410, 422), query=(_WAIT,)),
    _e("why_job", "GET", "/v1/jobs/{job_id}/why", "client", "Why a job waits: which rule keeps how many miners from it",
       why.JobWhy, problems=(410,), operator_too=True),
    _e("job_events", "GET", "/v1/jobs/{job_id}/events", "client", "A job as it changes, and what it brings forth, until it is finished",
       events.JobStream, streams=True, problems=(410, 422), query=(_LASTING,), operator_too=True),
    _e("cancel_job", "DELETE", "/v1/jobs/{job_id}", "client", "Cancel a job; its price goes back", jobs.JobView,
       problems=(409, 410)),
    _e("get_result", "GET", "/v1/jobs/{job_id}/result", "client", "The bytes of the result; ranges work",
       bytes, raw_response=True, problems=(409, 410, 416)),
    _e("upload_file", "PUT", _FILE, "client", "Upload a file for jobs, by the hash of its bytes; one that is there is not taken again",
       jobs.FileView, raw_request=True, problems=(409,), resumable=True),
    _e("file_state", "GET", _FILE + "/upload", "client", "How far the upload of a file is", jobs.FileState),
    _e("get_file", "GET", _FILE, "client", "The bytes of a file of this account; ranges work",
       bytes, raw_response=True, problems=(416,)),
    _e("list_files", "GET", "/v1/files", "client", "The account's files, the newest first", jobs.FilePage,
       problems=(422,), query=(_LIMIT, _CURSOR)),
    _e("delete_file", "DELETE", _FILE, "client", "Delete a file that no unfinished job needs", jobs.FileView, problems=(409,)),
    _e("get_me", "GET", "/v1/clients/me", "client", "The client's account", jobs.ClientView),
    _e("my_ledger", "GET", "/v1/clients/me/ledger", "client", "Every posting of the client's account, the newest first",
       ledger.Statement, problems=(422,), also=_CSV, query=(_HELD, _LIMIT, _CURSOR, _FORMAT)),
    # Whoever has a key.
    _e("account_events", "GET", "/v1/account/events", "account", "What happens: to a client's jobs, to a miner's jobs and payouts, or, for the operator, to all",
       events.AccountStream, streams=True, problems=(422,), query=(_LASTING,)),
    _e("create_webhook", "POST", "/v1/webhooks", "account", "Be told of what happens at a URL of yours",
       webhooks.WebhookCreated, request=webhooks.CreateWebhook, status=201, problems=(409, 422), secret=True),
    _e("list_webhooks", "GET", "/v1/webhooks", "account", "The account's webhooks", webhooks.Webhooks),
    _e("get_webhook", "GET", _WEBHOOK, "account", "A webhook as it stands", webhooks.WebhookView),
    _e("update_webhook", "PUT", _WEBHOOK, "account", "Change, disable or enable a webhook", webhooks.WebhookView,
       request=webhooks.UpdateWebhook, problems=(422,)),
    _e("delete_webhook", "DELETE", _WEBHOOK, "account", "No more of a webhook, its log included", webhooks.WebhookView),
    _e("rotate_webhook_secret", "POST", _WEBHOOK + "/secret", "account", "Another secret; the one before signs too for a day",
       webhooks.WebhookCreated, status=201, secret=True),
    _e("test_webhook", "POST", _WEBHOOK + "/test", "account", "Send a message that tells of nothing", webhooks.DeliveryView,
       status=201, problems=(409,)),
    _e("list_deliveries", "GET", _WEBHOOK + "/deliveries", "account", "What was sent, and how that went, the newest first",
       webhooks.DeliveryPage, problems=(422,), query=(
           Query("status", "string", "Only those in this state.", choices=_DELIVERY_STATES), _LIMIT, _CURSOR)),
    _e("replay_delivery", "POST", _WEBHOOK + "/deliveries/{delivery_id}/replay", "account", "Send a message again, under its id",
       webhooks.DeliveryView, problems=(409,)),
    # The operator's side.
    _e("create_client", "POST", "/v1/admin/clients", "operator", "A new client", admin.ClientCreated,
       request=admin.CreateClient, status=201, problems=(422,), secret=True),
    _e("list_clients", "GET", "/v1/admin/clients", "operator", "All clients", admin.ClientPage,
       problems=(422,), query=(_LIMIT, _CURSOR)),
    _e("get_client", "GET", "/v1/admin/clients/{client_id}", "operator", "A client", jobs.ClientView),
    _e("credit_client", "POST", "/v1/admin/clients/{client_id}/credit", "operator", "Change a client's balance",
       jobs.ClientView, request=admin.Credit, problems=(409, 422)),
    _e("set_credit_line", "PUT", "/v1/admin/clients/{client_id}/credit-line", "operator", "How far below 0 a client's balance may go",
       jobs.ClientView, request=ledger.SetCreditLine, problems=(422,)),
    _e("list_ledger", "GET", "/v1/admin/ledger", "operator", "The whole ledger, the newest first", ledger.LedgerPage,
       problems=(422,), also=_CSV, query=(_LIMIT, _CURSOR, _FORMAT)),
    _e("account_ledger", "GET", "/v1/admin/accounts/{account_id}/ledger", "operator",
       "Every posting of a client, a miner, `issued`, `fees` or `payouts`", ledger.Statement, problems=(422,), also=_CSV,
       query=(_HELD, _LIMIT, _CURSOR, _FORMAT)),
    _e("check_ledger", "GET", "/v1/admin/ledger/check", "operator", "Prove the whole ledger, and say where it fails",
       ledger.LedgerCheck, also=("application/x-ndjson",)),
    _e("list_payouts", "GET", "/v1/admin/payouts", "operator", "All payouts, the newest first; as a table for a bank or a wallet",
       payouts.PayoutPage, problems=(422,), also=_CSV, query=(
           Query("status", "string", "Only payouts in this state.", choices=_PAYOUT_STATES), _LIMIT, _CURSOR, _FORMAT)),
    _e("create_payout", "POST", "/v1/admin/miners/{miner_id}/payouts", "operator", "A payout on behalf of a miner, which may be retired",
       payouts.PayoutView, request=payouts.CreatePayout, body_optional=True, status=201, problems=(409, 422)),
    _e("get_payout", "GET", _PAYOUT, "operator", "A payout", payouts.PayoutView),
    _e("approve_payout", "POST", _PAYOUT + "/approve", "operator", "Let a payout be paid", payouts.PayoutView,
       problems=(409,)),
    _e("reject_payout", "POST", _PAYOUT + "/reject", "operator", "Do not pay it; its amount goes back to the miner",
       payouts.PayoutView, request=payouts.RejectPayout, body_optional=True, problems=(409, 422)),
    _e("mark_payout_paid", "POST", _PAYOUT + "/paid", "operator", "Say that it was paid, and under which reference",
       payouts.PayoutView, request=payouts.MarkPaid, problems=(409, 422)),
    _e("list_miners", "GET", "/v1/admin/miners", "operator", "All miners", admin.MinerPage,
       problems=(422,), query=(Query("status", "string", "Only miners in this state.", choices=_MINER_STATES), _LIMIT, _CURSOR)),
    _e("inspect_miner", "GET", "/v1/admin/miners/{miner_id}", "operator", "A miner, its work and its telemetry", admin.MinerDetail),
    _e("miner_telemetry", "GET", "/v1/admin/miners/{miner_id}/telemetry", "operator", "How a miner did, a sample a minute",
       admin.TelemetryHistory, problems=(422,), query=(
           Query("since", "number", "From this instant on.", 0, 1e12), Query("limit", "integer", "How many at the most.", 1, 4320))),
    _e("approve_miner", "POST", "/v1/admin/miners/{miner_id}/approve", "operator", "Let a pending or suspended miner work",
       miners.MinerView, problems=(409,)),
    _e("suspend_miner", "POST", "/v1/admin/miners/{miner_id}/suspend", "operator", "Give a miner no more jobs; what it holds it may finish",
       miners.MinerView, request=admin.Suspend, body_optional=True, problems=(409, 422)),
    _e("retire_miner", "POST", "/v1/admin/miners/{miner_id}/retire", "operator", "End a miner for good: its jobs go back and its keys end",
       miners.MinerView),
    _e("set_limits", "PUT", "/v1/admin/miners/{miner_id}/limits", "operator", "Limits for one miner", miners.MinerView,
       request=admin.SetLimits, problems=(422,)),
    _e("rotate_key", "POST", "/v1/admin/accounts/{account_id}/keys", "operator", "A new key for a miner, a client or the operator",
       admin.NewKey, request=admin.RotateKey, body_optional=True, status=201, problems=(409, 422), secret=True),
    _e("revoke_keys", "DELETE", "/v1/admin/accounts/{account_id}/keys", "operator", "End all keys of a miner or a client",
       admin.Revoked, problems=(409,)),
    _e("create_enrollment_token", "POST", "/v1/admin/enrollment-tokens", "operator", "A token to register with",
       admin.EnrollmentToken, request=admin.CreateEnrollmentToken, body_optional=True, status=201, problems=(422,), secret=True),
    _e("list_all_jobs", "GET", "/v1/admin/jobs", "operator", "All jobs, the newest first", jobs.JobPage,
       problems=(404, 422), query=(
           Query("status", "string", "Only jobs in this state.", choices=_STATES),
           Query("model", "string", "Only jobs of this model."),
           Query("client_id", "string", "Only jobs of this client."), _LIMIT, _CURSOR)),
    _e("cancel_any_job", "DELETE", "/v1/admin/jobs/{job_id}", "operator", "Cancel anybody's job", jobs.JobView, problems=(409, 410)),
    _e("audit_log", "GET", "/v1/admin/audit", "operator", "What operators did, the newest first", admin.AuditPage,
       problems=(422,), query=(_LIMIT, _CURSOR)),
    _e("overview", "GET", "/v1/admin/overview", "operator", "The exchange in numbers", admin.Overview),
    _e("health", "GET", "/healthz", "public", "Whether the coordinator serves", admin.Health),
)  # fmt: skip
