//! What each metric of redkit is, for the lines `# HELP` of the text format. `docs/metrics.md` says more.

use metrics::{Recorder, SharedString};

/// Every metric of redkit's crates: name, kind, and what it is.
pub const METRICS: &[(&str, &str, &str)] = &[
    (
        "redkit_client_calls_total",
        "counter",
        "Calls that have ended; a pipeline is one.",
    ),
    (
        "redkit_client_retries_total",
        "counter",
        "Attempts beyond the first.",
    ),
    (
        "redkit_client_call_duration_seconds",
        "histogram",
        "From the call to its end, all attempts included.",
    ),
    (
        "redkit_breaker_state",
        "gauge",
        "0 closed, 1 half open, 2 open, 3 forced open, 4 forced closed.",
    ),
    (
        "redkit_breaker_calls_total",
        "counter",
        "Calls as the breaker saw them.",
    ),
    (
        "redkit_breaker_not_permitted_total",
        "counter",
        "Calls it refused.",
    ),
    (
        "redkit_breaker_transitions_total",
        "counter",
        "Changes of state.",
    ),
    ("redkit_cache_reads_total", "counter", "Reads."),
    (
        "redkit_cache_loads_total",
        "counter",
        "Loads, and waits for others'.",
    ),
    (
        "redkit_cache_refreshes_total",
        "counter",
        "Loads in the background of values that were still fresh.",
    ),
    (
        "redkit_cache_fenced_total",
        "counter",
        "Loaded values that were not kept, because something happened to their keys meanwhile.",
    ),
    (
        "redkit_cache_overloads_total",
        "counter",
        "Loads refused: Redis down, and max_bypass_loads running.",
    ),
    (
        "redkit_cache_dropped_writes_total",
        "counter",
        "Loaded values that were not kept, because Redis could not be asked.",
    ),
    (
        "redkit_cache_fill_failures_total",
        "counter",
        "Loaded values that Redis did not take.",
    ),
    (
        "redkit_cache_decode_failures_total",
        "counter",
        "Stored values of another shape.",
    ),
    (
        "redkit_http_cache_responses_total",
        "counter",
        "Responses through the layer.",
    ),
    (
        "redkit_http_cache_not_modified_total",
        "counter",
        "Of these, those answered with 304 from the cache.",
    ),
    (
        "redkit_http_cache_invalidations_total",
        "counter",
        "Keys removed because a request changed something.",
    ),
    (
        "redkit_http_cache_errors_total",
        "counter",
        "Failures of the cache behind the layer; the request went on.",
    ),
    (
        "redkit_ratelimit_decisions_total",
        "counter",
        "Decisions, and who made them; a call on several limiters counts for each.",
    ),
    (
        "redkit_ratelimit_errors_total",
        "counter",
        "Calls that gave an error instead.",
    ),
    (
        "redkit_ratelimit_permits_lost_total",
        "counter",
        "Permits that were lost while they were held.",
    ),
    (
        "redkit_ratelimit_releases_lost_total",
        "counter",
        "Releases of places and of waits of which the server could not be told in the background: they run out by themselves.",
    ),
    (
        "redkit_alerts_total",
        "counter",
        "Alerts of this process that began and ended.",
    ),
    (
        "redkit_alerts_firing",
        "gauge",
        "Alerts that fire in this process.",
    ),
    (
        "redkit_alert_deliveries_total",
        "counter",
        "Deliveries to sinks.",
    ),
    (
        "redkit_alert_evaluations_total",
        "counter",
        "Looks at everything that rules are about: when it stands still, alerts are blind.",
    ),
    (
        "redkit_scheduler_runs_total",
        "counter",
        "Runs of a scheduler's jobs.",
    ),
    ("redkit_idempotent_calls_total", "counter", "Calls."),
    (
        "redkit_idempotent_lost_total",
        "counter",
        "Executions whose lease was lost, or that took longer than run_at_most.",
    ),
    (
        "redkit_idempotent_results_not_stored_total",
        "counter",
        "Results that were too large, or that Redis did not take at once.",
    ),
    (
        "redkit_latch_waits_total",
        "counter",
        "Waits that have ended.",
    ),
    (
        "redkit_lock_acquisitions_total",
        "counter",
        "Calls that wanted a lock.",
    ),
    (
        "redkit_lock_lost_total",
        "counter",
        "Locks that were lost while they were held.",
    ),
    ("redkit_lock_releases_total", "counter", "Ends of guards."),
    (
        "redkit_lock_renewals_total",
        "counter",
        "Renewals that the server confirmed.",
    ),
    (
        "redkit_lock_wait_seconds",
        "histogram",
        "How long callers waited for a lock.",
    ),
    (
        "redkit_redlock_acquires_total",
        "counter",
        "Calls that wanted a lock.",
    ),
    (
        "redkit_redlock_lost_total",
        "counter",
        "Locks that were lost while they were held.",
    ),
    (
        "redkit_semaphore_acquires_total",
        "counter",
        "Calls that wanted permits.",
    ),
    (
        "redkit_semaphore_grants_lost_total",
        "counter",
        "Grants that were lost while they were held.",
    ),
    (
        "redkit_semaphore_releases_lost_total",
        "counter",
        "Grants of whose end the server could not be told in the background: they run out by themselves.",
    ),
    (
        "redkit_session_loads_total",
        "counter",
        "Loads by an id that a client sent.",
    ),
    (
        "redkit_session_commits_total",
        "counter",
        "Commits of changes.",
    ),
    (
        "redkit_session_rotations_total",
        "counter",
        "New ids of stored sessions.",
    ),
    (
        "redkit_session_absent_saves_total",
        "counter",
        "Saves of tower-sessions whose record was not there any more, and which did nothing.",
    ),
    (
        "redkit_session_rejected_requests_total",
        "counter",
        "Requests that the layer answered with 403.",
    ),
    (
        "redkit_write_behind_writes_total",
        "counter",
        "Writes through this process's handles.",
    ),
    (
        "redkit_write_behind_changes_total",
        "counter",
        "Verdicts on changes of this process's workers.",
    ),
    (
        "redkit_write_behind_leases_lost_total",
        "counter",
        "Batches dropped or not reported, because the lease was lost.",
    ),
    (
        "redkit_write_behind_sink_duration_seconds",
        "histogram",
        "Calls of the sink.",
    ),
    (
        "redkit_write_behind_pending",
        "gauge",
        "Keys pending in the whole queue, as this process's workers last saw it; take the maximum over processes.",
    ),
    ("redkit_channel_published_total", "counter", "Publications."),
    (
        "redkit_channel_messages_total",
        "counter",
        "Messages of this process's subscriptions.",
    ),
    (
        "redkit_channel_gaps_total",
        "counter",
        "Gaps of the connection or the log that subscriptions were told.",
    ),
    (
        "redkit_inbox_items_total",
        "counter",
        "Items, as this process's calls saw it.",
    ),
    (
        "redkit_write_behind_oldest_seconds",
        "gauge",
        "How long the oldest has been pending, likewise.",
    ),
    (
        "redkit_election_terms_total",
        "counter",
        "Terms of this process that have ended.",
    ),
    (
        "redkit_election_leading",
        "gauge",
        "How many of its elections this process leads.",
    ),
    (
        "redkit_topic_published_total",
        "counter",
        "Publications on topics.",
    ),
    (
        "redkit_topic_handled_total",
        "counter",
        "Messages of this process's workers, by what became of them.",
    ),
    (
        "redkit_topic_handler_seconds",
        "histogram",
        "How long handlers took.",
    ),
    (
        "redkit_topic_gaps_total",
        "counter",
        "Groups that the server had lost and this process's workers made anew, by partitions.",
    ),
    (
        "redkit_topic_lag",
        "gauge",
        "Messages that were not delivered to a group yet; take the maximum over processes.",
    ),
    (
        "redkit_topic_pending",
        "gauge",
        "Messages that were delivered to a group and are not acknowledged, likewise.",
    ),
    (
        "redkit_topic_oldest_seconds",
        "gauge",
        "The age of the oldest message that a group has not acknowledged, likewise.",
    ),
    (
        "redkit_topic_dead_letters",
        "gauge",
        "Dead letters of a group, likewise.",
    ),
    (
        "redkit_topic_live_workers",
        "gauge",
        "A group's workers in all processes that gave a sign of life within 30 s, of an ordered group within its lease, likewise.",
    ),
];

/// Tells a recorder what the metrics are.
pub(super) fn describe(recorder: &impl Recorder) {
    for (name, kind, text) in METRICS {
        let text = SharedString::const_str(text);
        match *kind {
            "counter" => recorder.describe_counter((*name).into(), None, text),
            "histogram" => recorder.describe_histogram((*name).into(), None, text),
            _ => recorder.describe_gauge((*name).into(), None, text),
        }
    }
}
