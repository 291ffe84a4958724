// Made by tools/layout.mjs from persistent_agent.h: STRUCT_FIELD is that field's offset in linear memory, STRUCT_SIZE
// its struct's size. Constants one by one: bundlers put the number where it is used.

export const bytes_SIZE = 8, bytes_data = 0, bytes_size = 4;
export const effect_id_SIZE = 16, effect_id_version = 0, effect_id_index = 8;
export const call_id_SIZE = 24, call_id_stream = 0, call_id_version = 8, call_id_index = 16, call_id_attempt = 20;
export const state_SIZE = 32, state_name = 0, state_parent = 4, state_waits = 8, state_enter = 12, state_exit = 16, state_on_error = 20, state_flags = 24, state_tag = 28;
export const transition_SIZE = 24, transition_from = 0, transition_event = 4, transition_guard = 8, transition_action = 12, transition_to = 16, transition_tag = 20;
export const call_spec_SIZE = 32, call_spec_name = 0, call_spec_crash_policy = 4, call_spec_flags = 8, call_spec_attempts_max = 12, call_spec_backoff_ms = 16, call_spec_backoff_max_ms = 20, call_spec_attempt_timeout_ms = 24, call_spec_total_timeout_ms = 28;
export const machine_SIZE = 56, machine_size = 0, machine_version = 4, machine_name = 8, machine_ctx = 12, machine_context_size = 16, machine_signals = 20, machine_timers = 24, machine_approvals = 28, machine_calls = 32, machine_call_count = 36, machine_states = 40, machine_state_count = 44, machine_transitions = 48, machine_transition_count = 52;
export const event_SIZE = 48, event_kind = 0, event_code = 4, event_name = 8, event_effect = 16, event_attempt = 32, event_data = 36, event_who = 44;
export const entry_SIZE = 12, entry_kind = 0, entry_data = 4;
export const call_SIZE = 64, call_id = 0, call_agent = 24, call_name = 28, call_request = 32, call_key = 40, call_deadline_ms = 48, call_flags = 56, call_repeated = 60;
export const answer_SIZE = 20, answer_outcome = 0, answer_code = 4, answer_data = 8, answer_retry_after_ms = 16;
export const trace_SIZE = 56, trace_kind = 0, trace_code = 4, trace_stream = 8, trace_version = 16, trace_time_ms = 24, trace_agent = 32, trace_name = 36, trace_from = 40, trace_to = 44, trace_block_size = 48;
export const summary_SIZE = 40, summary_stream = 0, summary_version = 8, summary_due_ms = 16, summary_time_ms = 24, summary_state = 32, summary_status = 34, summary_flags = 35;
export const io_SIZE = 40, io_size = 0, io_count = 4, io_version = 8, io_next_due_ms = 16, io_stream = 24, io_cursor = 32;
export const append_SIZE = 96, append_op = 0, append_stream = 8, append_expected = 16, append_epoch = 24, append_blocks = 32, append_size = 36, append_count = 40, append_flags = 44, append_first = 48, append_summary = 56;
export const read_SIZE = 48, read_op = 0, read_stream = 8, read_mode = 16, read_version = 24, read_buffer = 32, read_capacity = 20, read_last = 40;
export const list_SIZE = 40, list_op = 0, list_cursor = 8, list_due_before_ms = 16, list_flags = 24, list_capacity = 28, list_items = 32;
export const trim_SIZE = 8, trim_op = 0;
export const limits_SIZE = 68, limits_size = 0, limits_context_size_max = 4, limits_payload_size_max = 8, limits_block_size_max = 12, limits_effects_max = 16, limits_mailbox_max = 20, limits_dedupe_count = 24, limits_loaded_max = 28, limits_requests_max = 32, limits_always_max = 36, limits_splices_max = 40, limits_snapshot_factor = 44, limits_snapshot_floor = 48, limits_inbox_interval_ms = 52, limits_idle_seal_ms = 56, limits_retry_pause_ms = 60, limits_full_snapshots = 64;
export const request_SIZE = 88, request_size = 0, request_verb = 4, request_agent = 8, request_id = 12, request_expected_version = 16, request_event = 24, request_target = 28, request_who = 32, request_effect = 40, request_digest = 56, request_version = 64, request_decision = 72, request_force = 76, request_data = 80;
export const receipt_SIZE = 136, receipt_result = 0, receipt_verb = 4, receipt_version = 8, receipt_text = 16;
export const info_SIZE = 264, info_name = 0, info_stream = 128, info_version = 136, info_changed_version = 144, info_link = 160, info_due_ms = 176, info_time_ms = 184, info_created_ms = 192, info_machine = 200, info_state = 204, info_parent_agent = 208, info_parent_version = 216, info_machine_version = 224, info_status = 228, info_flags = 232, info_error = 236, info_error_text = 240, info_context = 244, info_transcript_count = 252, info_effect_count = 256, info_mailbox_count = 260;
export const effect_SIZE = 80, effect_id = 0, effect_kind = 16, effect_phase = 20, effect_name = 24, effect_target = 28, effect_attempt = 32, effect_due_ms = 40, effect_deadline_ms = 48, effect_payload = 56, effect_digest = 64, effect_key = 72;
export const block_info_SIZE = 88, block_info_version = 0, block_info_epoch = 8, block_info_link = 16, block_info_time_ms = 24, block_info_type = 32, block_info_event = 36, block_info_outcome = 40, block_info_from = 44, block_info_to = 48, block_info_block_size = 52, block_info_effects_issued = 56, block_info_effects_settled = 60, block_info_transcript_entries = 64, block_info_context_changed = 68, block_info_data = 72, block_info_who = 80;
export const portable_SIZE = 184, portable_name = 0, portable_log = 128, portable_moved = 136, portable_count = 144, portable_first = 152, portable_last = 160, portable_link = 168, portable_bytes = 176;
export const damage_report_SIZE = 184, damage_report_damage = 0, damage_report_result = 4, damage_report_file = 8, damage_report_offset = 16, damage_report_size = 24, damage_report_stream = 32, damage_report_version = 40, damage_report_text = 60;
export const file_options_SIZE = 32, file_options_size = 0, file_options_log_per_agent = 4, file_options_read_only = 8, file_options_truncate_suspect = 12, file_options_segment_size = 16, file_options_preallocate_max = 20, file_options_on_discard = 24;
