"""Loads that are uneven, fills that come together, and reads that were kept back, each of which has to be seen."""

import random
import unittest

from load import zipf_weights
from mitigation_check import busiest_over_mean, cut, last_kept_back, most_fills, most_within
from mitigation_load import Mix, Target


class Shares(unittest.TestCase):
    def test_cut(self):
        self.assertAlmostEqual(cut(1_000, 50), 0.95)
        self.assertEqual(cut(0, 0), 0)
        self.assertLess(cut(100, 120), 0)

    def test_busiest_over_mean(self):
        self.assertEqual(busiest_over_mean([5, 5, 5]), 1)
        self.assertEqual(busiest_over_mean([9, 0, 0]), 3)
        self.assertEqual(busiest_over_mean([0, 0]), 0)

    def test_a_key_of_rank_two_comes_by_its_exponent(self):
        self.assertEqual(zipf_weights(4, 1)[:2], [1, 0.5])
        self.assertAlmostEqual(zipf_weights(2, 1.2)[1], 2 ** -1.2)

    def test_a_mix_draws_by_weight_and_writes_its_share(self):
        source = random.Random(1)
        mix = Mix([Target("a", 3, "x", None), Target("b", 1, "y", None)], 0.1)
        drawn = [mix.draw(source) for _ in range(20_000)]
        self.assertAlmostEqual(sum(target.key == "a" for target, _, _ in drawn) / len(drawn), 0.75, delta=0.02)
        self.assertAlmostEqual(sum(is_write for _, is_write, _ in drawn) / len(drawn), 0.1, delta=0.01)
        self.assertTrue(all(b"SET" in data if is_write else b"GET" in data for _, is_write, data in drawn))


class Fills(unittest.TestCase):
    def test_the_span_is_open_at_its_end(self):
        self.assertEqual(most_within([0, 1, 2], 1), 1)
        self.assertEqual(most_within([0, 0.9, 2], 1), 2)
        self.assertEqual(most_within([], 1), 0)

    def test_a_stampede_is_found_wherever_it_is(self):
        self.assertEqual(most_within([0, 1, 2, 3, 3.1, 3.2, 5], 1), 3)

    def test_keys_and_askers_count_apart(self):
        calm = [(0, "a", "k"), (0, "b", "k"), (0, "a", "l"), (1, "a", "k")]
        self.assertEqual(most_fills(calm, 1)[0], 1)
        self.assertEqual(most_fills([*calm, (0.5, "b", "k")], 1), (2, "b", "k"))
        self.assertEqual(most_fills([], 1)[0], 0)


class KeptBack(unittest.TestCase):
    def kept_back(self, answered, seen):
        return last_kept_back(answered, seen, 0.001)

    def test_all_reached_the_node(self):
        self.assertIsNone(self.kept_back([(1, 1.01), (2, 2.01)], [1.005, 2.005]))

    def test_the_last_that_did_not_is_told(self):
        self.assertEqual(self.kept_back([(1, 1.01), (2, 2.01), (3, 3.01)], [1.005, 3.005]), 2.01)
        self.assertEqual(self.kept_back([(1, 1.01)], []), 1.01)

    def test_what_the_agent_asks_by_itself_belongs_to_no_read(self):
        self.assertIsNone(self.kept_back([(1, 1.01), (2, 2.01)], [1.005, 1.5, 2.005, 2.5]))
        self.assertEqual(self.kept_back([(1, 1.01), (2, 2.01)], [1.005, 1.5]), 2.01)

    def test_replies_that_come_together_after_a_pause(self):
        self.assertIsNone(self.kept_back([(1, 5.0), (2, 5.0), (3, 5.01)], [4.98, 4.99, 5.005]))
        self.assertEqual(self.kept_back([(1, 5.0), (2, 5.0), (3, 5.01)], [4.99, 5.005]), 5.0)


if __name__ == "__main__":
    unittest.main()
