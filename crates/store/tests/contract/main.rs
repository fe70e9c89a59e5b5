//! The contract every backend of the store passes, and what is particular to each.
//!
//! SQLite brings itself along. MongoDB is the server that `MANGROVE_TEST_MONGODB` names; `scripts/test` starts one.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod model;
#[cfg(test)]
mod places;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod wire;

/// Each of these for each backend.
macro_rules! for_every_backend {
    ($($module:ident :: $test:ident),* $(,)?) => {
        #[cfg(test)]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$module::$test(crate::places::Place::sqlite()).await;
            })*
        }

        #[cfg(test)]
        mod mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$module::$test(crate::places::Place::mongodb()).await;
            })*
        }
    };
}

for_every_backend! {
    suite::what_was_committed_is_there_after_opening_again,
    suite::a_commit_is_written_whole_or_not_at_all,
    suite::a_commit_that_fails_undoes_none_of_its_neighbours,
    suite::only_one_of_two_writers_with_the_same_expectation_wins,
    suite::a_document_is_replaced_as_of_its_revision_only,
    suite::commits_of_many_writers_are_all_kept,
    suite::a_large_commit_is_one_commit,
    suite::documents_are_listed_in_the_order_of_their_keys,
    suite::a_collection_is_read_page_by_page_from_either_end,
    suite::changes_resume_in_order_from_any_revision,
    suite::what_is_deleted_says_what_it_was,
    suite::a_commit_is_never_told_in_halves,
    suite::a_list_is_as_of_its_revision,
    suite::a_watcher_that_was_away_too_long_is_told_to_list_again,
    suite::the_log_is_bounded_by_its_bytes_too,
    suite::a_store_that_keeps_no_history_has_none,
    suite::every_commit_wakes_who_waits,
    suite::who_was_taken_over_writes_no_more,
    suite::what_was_taken_over_is_whole,
    model::chance_commits_and_openings_agree_with_a_model,
    crash::whoever_is_killed_has_kept_what_it_acknowledged,
}
