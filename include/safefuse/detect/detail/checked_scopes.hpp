// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the scopes of a family, and nothing that looks like an expert beside them.
#ifndef SAFEFUSE_DETECT_DETAIL_CHECKED_SCOPES_HPP
#define SAFEFUSE_DETECT_DETAIL_CHECKED_SCOPES_HPP

#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/detect/unknown_experts.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The scopes that experts_scopes::find gave for a family in a set; there may be none.
///   fails   what find failed with; unknown_experts (unless options.keep_unknown), out_of_memory
[[nodiscard]] inline result<experts_scopes> checked_scopes(const tensor_set_ref& set,
                                                           const family_description& family,
                                                           result<experts_scopes>&& scopes,
                                                           const plan_options& options) noexcept {
    if (!scopes || options.keep_unknown) return std::move(scopes);
    const auto strangers = find_unknown_experts(set, *scopes);
    if (!strangers) return strangers.error();
    if (strangers->count != 0) return describe(set, *strangers, family);
    return std::move(scopes);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
