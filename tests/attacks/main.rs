//! Attacks that must fail, one module each. Every test asserts that the attack has no effect *and* that honest traffic
//! still flows afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod line_02_corrupted_copy_first;
mod line_03_oversized_publish;
mod line_04_many_lost_in_a_row;
mod line_05_revocation_ends_both_directions;
mod line_06_certificate_expires_in_use;
mod line_07_old_manifest_as_newer;
mod line_08_junk_before_revocation;
mod line_10_replay_across_restart;
mod line_11_reflection;
mod line_13_power_loss;
mod line_14_a_hundred_thousand_peers;
mod line_15_sender_crash;
mod line_17_receiver_that_does_not_poll;
mod line_18_broker_down;
mod line_19_malformed_input;
mod line_20_replayed_announcement;
mod line_21_revocation_gap;
mod line_22_torn_audit_log;
mod line_25_key_compromise_impersonation;
mod line_26_role_reflection;
mod line_27_suite_downgrade;
mod line_28_hybrid_stripping;
mod line_30_replay_across_a_crash;
mod line_31_crash_before_sending;
mod line_32_sender_rolled_back;
mod line_33_retained_substitution;
mod line_34_cross_topic_republish;
mod line_35_tampered_properties;
mod line_38_kem_binding;
mod line_39_low_order_share;
mod line_41_signature_malleability;
mod line_42_context_separation;
mod line_43_clock_rollback;
mod line_49_canonical_encoding;
mod line_50_log_and_metric_injection;
mod line_51_grants;
mod line_52_damaged_data_directory;
mod line_57_resigned_blob;
mod line_59_far_ahead_claims;
mod line_66_dropped_issuer;
mod line_69_hidden_prekeys;
mod line_71_checkpoint_that_omits;
