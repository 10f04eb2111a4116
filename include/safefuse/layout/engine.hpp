// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: an engine as data: the layout in which it keeps experts, and the scope where it expects
// them.
#ifndef SAFEFUSE_LAYOUT_ENGINE_HPP
#define SAFEFUSE_LAYOUT_ENGINE_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/layout/rename.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Engine scope: the experts keep their stored scope.
inline constexpr std::string_view same_scope = "{scope}";
/// Engine scope: the stored scope without its last segment, that is, the module around the experts.
inline constexpr std::string_view parent_scope = "{parent}";

/// An engine's layout with its name, for programs that choose it at run time: plan(set, scope,
/// layouts::per_expert::description, *it->layout).
struct engine_entry {
    std::string_view name;             ///< as find_engine takes it
    const layout_description* layout;  ///< never null
    /// Where the engine expects the experts of a stored scope: same_scope, parent_scope, or a name
    /// in which {i} is the last number of the stored scope (the layer).
    std::string_view scope = same_scope;
};

/// The scope in which an engine expects the experts that are stored in scope `stored`.
///   fails   out_of_range (the stored scope has no number, or no segment before its last one),
///           out_of_memory
[[nodiscard]] inline result<text> engine_scope(const engine_entry& engine,
                                               std::string_view stored) noexcept {
    const auto copied = [](std::string_view name) noexcept -> result<text> {
        text out{name};
        if (out.size() != name.size()) return detail::lack_of_memory{};
        return out;
    };
    const auto nowhere = [&](const char* why) noexcept {
        return failure{.code = errc::out_of_range, .scope = text{stored}, .detail = text{why}};
    };
    if (engine.scope == same_scope) return copied(stored);
    const std::size_t dot = stored.rfind('.');
    if (engine.scope == parent_scope) {
        if (dot == std::string_view::npos)
            return nowhere("the engine uses the enclosing scope, and this scope has none");
        return copied(stored.substr(0, dot));
    }
    detail::found_pattern layer;
    for (std::size_t begin = 0; begin <= stored.size();) {
        std::size_t end = stored.find('.', begin);
        if (end == std::string_view::npos) end = stored.size();
        detail::found_pattern found;
        if (detail::begins_with_pattern(stored.substr(begin, end - begin), number_hole, found))
            layer = found;
        begin = end + 1;
    }
    if (layer.numbers[0].empty())
        return nowhere("the engine's scope contains the layer number, and this scope has none");
    text out;
    if (!detail::append_pattern(out, engine.scope, layer)) return detail::lack_of_memory{};
    return out;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
