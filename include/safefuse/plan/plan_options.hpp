// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the options of a plan: names, ranges, known extents.
#ifndef SAFEFUSE_PLAN_PLAN_OPTIONS_HPP
#define SAFEFUSE_PLAN_PLAN_OPTIONS_HPP

#include <cstdint>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// An extent that is known in advance, for example from config.json.
struct known_extent {
    std::string_view name;    ///< "E" is the number of experts
    std::uint64_t value = 0;  ///< number of elements
};

/// What part of a scope is planned, under which name, and which extents are known.
struct plan_options {
    /// The scope of the outputs. Empty: the scope of the source.
    std::string_view destination_scope{};
    /// The experts [first_expert, end_expert), numbered as in the source. Both defaults: all
    /// experts.
    std::uint64_t first_expert = 0;
    /// End of the range. unknown: the last expert.
    std::uint64_t end_expert = unknown;
    /// Only entries [slice_first, slice_end) of the extent with this name ("I", for example): one
    /// rank of a tensor-parallel group. Empty: all entries.
    std::string_view sliced_extent{};
    /// First entry of the slice.
    std::uint64_t slice_first = 0;
    /// End of the slice. unknown: the end of the extent.
    std::uint64_t slice_end = unknown;
    /// If slice_ranks > 1, the slice is share `slice_rank` of slice_ranks equal shares instead, and
    /// `sliced_extent` may name several extents, separated by spaces.
    std::uint64_t slice_rank = 0;
    /// Number of ranks. 1: slice_first and slice_end apply.
    std::uint64_t slice_ranks = 1;
    /// Extents that names and shapes must agree with. They also supply extents that shapes do not
    /// tell (E, if experts are flattened into rows). Names that a layout does not have are ignored.
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
