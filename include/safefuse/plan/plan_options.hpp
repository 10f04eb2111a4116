// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: what a caller asks of a plan beside the two layouts: names, ranges, known extents.
#ifndef SAFEFUSE_PLAN_PLAN_OPTIONS_HPP
#define SAFEFUSE_PLAN_PLAN_OPTIONS_HPP

#include <cstdint>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An extent that is known beforehand, from config.json say.
struct known_extent {
    std::string_view name;    ///< "E" is the number of experts
    std::uint64_t value = 0;  ///< elements along it
};

/// Which part of a scope is planned, under which name, and what is known of it.
struct plan_options {
    /// The scope of the outputs; empty: that of the source.
    std::string_view destination_scope{};
    /// Only these experts, numbered as in the source; end is exclusive, unknown: all of them.
    std::uint64_t first_expert = 0;
    std::uint64_t end_expert = unknown;  ///< one behind the last; unknown: to the end
    /// Only the entries [first, end) of the extent of that name ("I", say): one rank of a
    /// tensor-parallel group. Empty: all.
    std::string_view sliced_extent{};
    std::uint64_t slice_first = 0;      ///< first entry that is kept
    std::uint64_t slice_end = unknown;  ///< one behind the last; unknown: to the end
    /// With more than one rank, the range is rank `slice_rank` of as many equal ones instead, and
    /// `sliced_extent` may name several extents, with a space between them.
    std::uint64_t slice_rank = 0;
    std::uint64_t slice_ranks = 1;  ///< 1: the range above counts
    /// What names and shapes must agree with, and what tells extents that they do not show (E where
    /// experts are flattened into rows). Extents that a layout does not have are passed over.
    span<const known_extent> known_extents{};
    /// Move quantised codes (F8, F4, F6, integers) whose scales are missing.
    bool allow_missing_scales = false;
    /// rewrite_plan, find_model, find_scopes: pass through what looks like an expert and fits no
    /// known form.
    bool keep_unknown = false;
    /// find_model, find_scopes: a family that fits no experts is no failure. A rewrite_plan never
    /// takes it for one.
    bool allow_no_experts = false;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
