//! The names in the documents of each command. Programs rely on them: names may be added, and none may be removed.

const SECTIONS: &str = "freshness sections";
const REGISTRATION: &str = "adds charged decided_at drops expected_wait_ms idempotency_key needs_attention outcome place_in_line reasons registration_id student_id submitted_at ticket";
const DOOR: &str = "by changed_at door reason sentence";
const HOLD: &str = "description hold_id";
const OVERRIDE: &str = "granted_at granted_by justification override_id reason section_id student_id valid_until";
const SAGA: &str =
    "created_at definition definition_version needs_attention outcome owner phase saga_id student_id updated_at";
const SAGA_WHOLE: &str = "archived_in events registration steps summary traceparent turned_because unreadable_because";
const DESTINATION: &str = "breaker in_flight in_flight_max last_error name waiting";

/// Commands whose document is a list.
pub const LISTS: &[&str] = &[
    "registration list",
    "hold set",
    "hold list",
    "hold lift",
    "override list",
    "archive list",
    "database compact",
    "saga list",
    "saga destinations",
];

/// Names by command; of a list, in each of its items.
pub const NAMES: &[(&str, &str)] = &[
    ("config", ""),
    ("campus generate", "clicks courses dir duration_s seats sections students"),
    ("import", "courses sections sections_changed sections_created students terms"),
    ("sections show", SECTIONS),
    ("sections set-capacity", "capacity changed_at section_id taken version"),
    ("sections watch", SECTIONS),
    ("register", REGISTRATION),
    ("registration show", REGISTRATION),
    ("registration list", REGISTRATION),
    ("registration pause", DOOR),
    ("registration close", DOOR),
    ("registration open", DOOR),
    ("registration door", "changes door sentence"),
    ("hold set", HOLD),
    ("hold list", HOLD),
    ("hold lift", ""),
    ("override grant", OVERRIDE),
    ("override list", OVERRIDE),
    (
        "student show",
        "account appointment_end appointment_start completed courses holds max_credits_hundredths name overrides registrations student_id",
    ),
    (
        "rush",
        "active_s answers_lost audit audit_holds clicks clicks_held_back clicks_outstanding_max clicks_planned clicks_without_outcome connections dir errors generator_lateness_ms latency_since_due_ms latency_since_sent_ms outcomes refusals registrations registrations_in_busiest_s registrations_per_s repeated_keys sagas_unfinished_at_audit speed stall_longest_ms turned_away",
    ),
    ("audit", "decided_by_hand holds invariants needing_attention"),
    ("archive list", SAGA),
    ("archive show", SAGA_WHOLE),
    ("database compact", "ids problem role"),
    ("saga list", SAGA),
    ("saga show", SAGA_WHOLE),
    ("saga explain", "advice explanation summary"),
    ("saga watch", SAGA),
    ("saga destinations", DESTINATION),
    ("saga retry", SAGA),
    ("saga skip", SAGA),
    ("saga resolve", SAGA),
    ("saga abandon", SAGA),
    ("saga limit", DESTINATION),
    ("saga cancel", SAGA),
];
