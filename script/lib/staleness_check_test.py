"""Histories that break a guarantee, each of which the checker has to flag, and histories that only look as if they did."""

import unittest

from staleness_check import DIRECT, FOREIGN, GUARANTEE_1, GUARANTEE_2, HISTORY, History, Limits, Read, Write, judge_all

KEY = "k"
CAP, ON_ERROR = 1.0, 4.0


class Checks(unittest.TestCase):
    def setUp(self):
        self.history = History({KEY: Limits(CAP, ON_ERROR), "other": Limits(CAP, ON_ERROR), "strict": Limits(CAP, 0)})

    def wrote(self, sequence, sent, acknowledged, path="a", guarded=True, key=KEY, delete=False):
        """`acknowledged` is None for an unknown outcome, which nobody waits for longer than a tenth of a second."""
        ended = sent + 0.1 if acknowledged is None else acknowledged
        self.history.add_write(key, Write(sequence, path, sent, ended, acknowledged is not None, guarded, delete))

    def read(self, sequence, sent, path="b", received=None, key=KEY):
        return Read(key, path, 1, sent, sent + 0.001 if received is None else received, sequence)

    def guarantees(self, *reads):
        """What is broken, in order."""
        return [violation.guarantee for violation in judge_all(self.history, reads).violations]

    def staleness(self, read):
        return self.history.judge(read).staleness


class Staleness(Checks):
    def test_counts_from_the_acknowledgement_of_the_first_newer_write(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.2)
        self.wrote(3, 2, 2.3)
        self.assertAlmostEqual(self.staleness(self.read(1, 1.5)), 0.3)
        self.assertAlmostEqual(self.staleness(self.read(1, 2.0)), 0.8)
        self.assertAlmostEqual(self.staleness(self.read(2, 2.5)), 0.2)
        self.assertEqual(self.staleness(self.read(3, 9)), 0)

    def test_is_nothing_while_the_newer_write_is_not_acknowledged(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 3)
        self.assertEqual(self.staleness(self.read(1, 2.9)), 0)

    def test_beyond_the_cap_breaks_guarantee_2(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 2.1)), [])
        self.assertEqual(self.guarantees(self.read(1, 2.11)), [GUARANTEE_2])

    def test_a_write_past_the_agents_counts_too(self):
        self.wrote(1, 0, 0.1, path=DIRECT)
        self.wrote(2, 1, 1.1, path=DIRECT)
        self.assertEqual(self.guarantees(self.read(1, 2.2)), [GUARANTEE_2])

    def test_a_long_answer_is_not_staleness(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 1.05, received=9)), [])

    def test_a_value_that_comes_back_is_flagged(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.wrote(3, 2, 2.1)
        self.assertEqual(self.guarantees(self.read(3, 2.5), self.read(1, 2.6)), [GUARANTEE_2])

    def test_the_node_itself_is_never_stale(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 1.2, path=DIRECT)), [HISTORY])
        self.assertEqual(self.guarantees(self.read(2, 1.2, path=DIRECT), self.read(1, 1.05, path=DIRECT)), [])


class OwnWrites(Checks):
    def test_an_older_value_after_an_own_write_breaks_guarantee_1(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 1.1, path="a")), [GUARANTEE_1])
        self.assertEqual(self.guarantees(self.read(2, 1.1, path="a")), [])

    def test_another_agents_write_may_be_missed_within_the_cap(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1, path="b")
        self.assertEqual(self.guarantees(self.read(1, 1.2, path="a")), [])

    def test_a_read_that_was_sent_before_the_acknowledgement_may_see_either(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 1.09, path="a"), self.read(2, 1.0, path="a")), [])

    def test_both_guarantees_may_be_broken_at_once(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.assertEqual(self.guarantees(self.read(1, 9, path="a")), [GUARANTEE_2, GUARANTEE_1])

    def test_stale_on_error_does_not_excuse_it(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.history.add_outage(["a", "b"], [KEY], 0, 9)
        self.assertEqual(self.guarantees(self.read(1, 2.5, path="a")), [GUARANTEE_1])

    def test_no_value_after_an_own_write(self):
        self.wrote(1, 0, 0.1)
        self.assertEqual(self.guarantees(self.read(None, 0.2, path="a")), [GUARANTEE_1])
        self.history.add_loss([KEY], 0.15, 0.18)
        self.assertEqual(self.guarantees(self.read(None, 0.2, path="a")), [])
        self.wrote(2, 0.5, 0.6)
        self.assertEqual(self.guarantees(self.read(None, 0.7, path="a")), [GUARANTEE_1])

    def test_a_loss_does_not_excuse_a_value_that_was_overwritten_before_it(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1)
        self.history.add_loss([KEY], 1.2, 1.3)
        self.assertEqual(self.guarantees(self.read(1, 1.4, path="a")), [GUARANTEE_1])


class Caps(Checks):
    def setUp(self):
        super().setUp()
        for key in self.history.limits:
            self.wrote(1, 0, 0.1, key=key)
            self.wrote(2, 1, 1.1, key=key)
        self.history.add_outage(["b"], [KEY, "strict"], 2, 6)

    def test_the_cap_for_errors_holds_while_home_is_out_of_reach(self):
        self.assertEqual(self.guarantees(self.read(1, 5.0), self.read(1, 2.5)), [])
        self.assertEqual(self.guarantees(self.read(1, 5.2)), [GUARANTEE_2])

    def test_it_ends_with_the_outage(self):
        self.assertEqual(self.guarantees(self.read(1, 6.01)), [GUARANTEE_2])

    def test_a_read_that_touches_the_outage_has_it(self):
        self.assertEqual(self.guarantees(self.read(1, 2.2 - 0.3, received=2.0), self.read(1, 5.0, received=7)), [])

    def test_other_agents_keys_and_rules_have_it_not(self):
        self.assertEqual(self.guarantees(self.read(1, 2.5, path="c")), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(1, 2.5, key="other")), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(1, 2.5, key="strict")), [GUARANTEE_2])

    def test_the_two_are_told_apart(self):
        tally = judge_all(self.history, [self.read(1, 1.6), self.read(2, 1.6), self.read(1, 2.5)])
        self.assertEqual([round(each, 3) for each in tally.under_cap], [0.5, 0])
        self.assertEqual([round(each, 3) for each in tally.on_error], [1.4])


class UnknownOutcomes(Checks):
    def test_an_unknown_write_makes_nothing_stale(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, None)
        self.assertEqual(self.guarantees(self.read(1, 9), self.read(2, 9), self.read(1, 9, path="a")), [])

    def test_an_unguarded_one_may_have_come_late(self):
        self.wrote(1, 0, 0.1, guarded=False)
        self.wrote(2, 1, None, guarded=False)
        self.wrote(3, 2, 2.1, guarded=False)
        self.assertEqual(self.guarantees(self.read(2, 9), self.read(2, 9, path="a")), [])
        self.assertEqual(self.guarantees(self.read(1, 9)), [GUARANTEE_2])

    def test_but_not_once_all_is_settled(self):
        self.wrote(1, 0, 0.1, guarded=False)
        self.wrote(2, 1, None, guarded=False)
        self.wrote(3, 2, 2.1, guarded=False)
        self.history.settle(0.5)
        self.history.settle(3)
        # It came last, and is what the node holds.
        self.assertEqual(self.guarantees(self.read(2, 9), self.read(2, 9, path="a"), self.read(2, 9, path=DIRECT)), [])
        self.wrote(4, 4, 4.1, guarded=False)
        self.assertAlmostEqual(self.staleness(self.read(2, 4.6)), 0.5)
        self.assertEqual(self.guarantees(self.read(2, 5.2)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(2, 4.2, path="a")), [GUARANTEE_1])

    def test_a_write_that_had_not_ended_is_not_settled(self):
        self.wrote(1, 0, 0.1, guarded=False)
        self.wrote(2, 1, None, guarded=False)
        self.history.settle(1.05)
        self.wrote(3, 2, 2.1, guarded=False)
        self.assertEqual(self.guarantees(self.read(2, 9)), [])

    def test_a_guarded_one_may_not(self):
        self.wrote(2, 1, None)
        self.wrote(3, 2, 2.1)
        self.assertEqual(self.guarantees(self.read(2, 3.2)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(2, 2.2, path="a")), [GUARANTEE_1])


class Losses(Checks):
    def test_no_value_is_stale_from_the_first_write_on(self):
        self.assertEqual(self.guarantees(self.read(None, 9)), [])
        self.wrote(1, 0, 0.1)
        self.assertAlmostEqual(self.staleness(self.read(None, 0.6)), 0.5)
        self.assertEqual(self.guarantees(self.read(None, 1.2)), [GUARANTEE_2])

    def test_a_loss_makes_no_value_true_again(self):
        self.wrote(1, 0, 0.1)
        self.history.add_loss([KEY], 5, 6)
        self.assertEqual(self.guarantees(self.read(None, 4.9)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(None, 5.1), self.read(None, 99)), [])
        self.wrote(2, 7, 7.1)
        self.assertAlmostEqual(self.staleness(self.read(None, 7.6)), 0.5)

    def test_a_write_under_way_meanwhile_may_be_gone(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 4.9, 5.1)
        self.wrote(3, 5.2, 5.3)
        self.wrote(4, 5.9, 6.05)
        self.history.add_loss([KEY], 5, 6)
        self.assertEqual(self.guarantees(self.read(None, 9), self.read(1, 9), self.read(3, 9, path="a")), [])
        self.wrote(5, 6.1, 6.2)
        self.assertEqual(self.guarantees(self.read(None, 9)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(1, 9)), [GUARANTEE_2])

    def test_a_value_from_before_is_older_than_all_after(self):
        self.wrote(1, 0, 0.1)
        self.history.add_loss([KEY], 5, 6)
        self.wrote(2, 7, 7.1)
        self.assertEqual(self.guarantees(self.read(1, 8.0)), [])
        self.assertEqual(self.guarantees(self.read(1, 8.2)), [GUARANTEE_2])

    def test_the_last_of_several_counts(self):
        self.wrote(1, 0, 0.1)
        self.history.add_loss([KEY], 5, 6)
        self.wrote(2, 7, 7.1)
        self.history.add_loss([KEY], 10, 11)
        self.assertEqual(self.guarantees(self.read(None, 9.9)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(None, 10.1)), [])


class Deletes(Checks):
    def setUp(self):
        super().setUp()
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1, delete=True)

    def test_a_deleted_value_is_stale(self):
        self.assertEqual(self.guarantees(self.read(1, 2.0), self.read(None, 99)), [])
        self.assertEqual(self.guarantees(self.read(1, 2.2)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(1, 1.2, path="a")), [GUARANTEE_1])

    def test_no_value_is_right_from_the_question_on_and_stale_after_the_next_write(self):
        self.assertEqual(self.guarantees(self.read(None, 0.95, path="a", received=1.05)), [])
        self.assertEqual(self.guarantees(self.read(None, 0.9, path="a", received=0.99)), [GUARANTEE_1])
        self.wrote(3, 3, 3.1)
        self.assertAlmostEqual(self.staleness(self.read(None, 3.6)), 0.5)
        self.assertEqual(self.guarantees(self.read(None, 4.2)), [GUARANTEE_2])
        self.assertEqual(self.guarantees(self.read(None, 3.2, path="a")), [GUARANTEE_1])

    def test_a_delete_of_unknown_outcome_may_come_late_until_all_is_settled(self):
        self.wrote(3, 3, 3.1, guarded=False)
        self.wrote(4, 4, None, guarded=False, delete=True)
        self.wrote(5, 5, 5.1, guarded=False)
        self.assertEqual(self.guarantees(self.read(None, 9, path="a"), self.read(3, 5.9), self.read(5, 9)), [])
        self.history.settle(6)
        self.wrote(6, 7, 7.1, guarded=False)
        self.assertEqual(self.guarantees(self.read(None, 6.5), self.read(None, 7.2)), [])
        self.assertEqual(self.guarantees(self.read(None, 7.2, path="a")), [GUARANTEE_1])
        self.assertEqual(self.guarantees(self.read(None, 8.2)), [GUARANTEE_2])

    def test_a_delete_under_way_may_have_happened(self):
        self.wrote(3, 3, 3.1)
        self.history.set_deletes_under_way({KEY: 5})
        self.assertEqual(self.guarantees(self.read(None, 4.99, path="a", received=5)), [])
        self.assertEqual(self.guarantees(self.read(None, 4.9, path="a", received=4.99)), [GUARANTEE_2, GUARANTEE_1])
        self.history.set_deletes_under_way({})
        self.assertEqual(self.guarantees(self.read(None, 4.99, received=5)), [GUARANTEE_2])

    def test_nobody_reads_a_delete(self):
        self.assertEqual(self.guarantees(self.read(2, 3)), [HISTORY])


class Recording(Checks):
    def test_a_value_that_nobody_wrote(self):
        self.wrote(1, 0, 0.1)
        self.assertEqual(self.guarantees(self.read(2, 9)), [])
        self.assertEqual(self.guarantees(self.read(3, 9)), [HISTORY])

    def test_a_value_of_another_key(self):
        self.assertEqual(self.guarantees(self.read(FOREIGN, 9)), [HISTORY])

    def test_two_writers_are_refused(self):
        self.wrote(2, 0, 0.2)
        with self.assertRaises(ValueError):
            self.wrote(3, 0.1, 0.3)
        with self.assertRaises(ValueError):
            self.wrote(2, 1, 1.3)

    def test_a_violation_says_what_is_needed_to_look_into_it(self):
        self.wrote(1, 0, 0.1)
        self.wrote(2, 1, 1.1, path=DIRECT)
        text = str(judge_all(self.history, [self.read(1, 2.6)]).violations[0])
        for part in ("guarantee 2", "k,", "through b", "client 1", "2.600000", "sequence 1", "1500.0 ms", "the cap is 1000 ms",
                     "sequence 2 was written through direct", "written through a"):
            self.assertIn(part, text)


if __name__ == "__main__":
    unittest.main()
