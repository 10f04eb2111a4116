// safefuse: which family a checkpoint is of: by its model_type, or else by the names of its tensors.
#ifndef SAFEFUSE_LAYOUTS_KNOWN_HPP
#define SAFEFUSE_LAYOUTS_KNOWN_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <safefuse/detail/array.hpp>
#include <safefuse/family.hpp>
#include <safefuse/layouts/families.hpp>
#include <safefuse/result.hpp>
#include <safefuse/scopes.hpp>
#include <safefuse/sequence.hpp>
#include <safefuse/tensor_set.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// A family as data, both ways.
struct known_family {
    family_description fuse;
    family_description unfuse;
};

namespace detail {

template <class... Family>
struct family_list {
    static constexpr known_family all[] = {{description_of<Family>, inverse_of<Family>}...};
};

using shipped_families =
    family_list<layouts::qwen2_moe, layouts::ernie4_5_moe, layouts::exaone_moe, layouts::granitemoe, layouts::hy_v3, layouts::jamba,
                layouts::lfm2_moe, layouts::mixtral, layouts::nemotron_h, layouts::phimoe>;

}  // namespace detail

/// All families that the library ships.
inline constexpr sequence<const known_family> known_families{detail::shipped_families::all};

/// The family of that name or model type, or null.
[[nodiscard]] constexpr const known_family* find_family(std::string_view name) noexcept {
    for (const known_family& each : known_families) {
        if (each.fuse.name == name) return &each;
        for (const std::string_view type : each.fuse.model_types)
            if (type == name) return &each;
    }
    return nullptr;
}

/// The names of all families, for messages.
inline text known_family_names() noexcept {
    text out{"known are "};
    for (const known_family& each : known_families) {
        if (&each != known_families.data()) out.append(", ");
        out.append(each.fuse.name);
    }
    return out;
}

namespace detail {

/// How the renames of a family meet the names of a tensor set.
struct rename_fit {
    bool all = true;           ///< each finds something to rename, when they are applied in turn
    std::uint32_t stored = 0;  ///< how many find it in the names as they are, without the renames before them
};

inline result<rename_fit> fit_renames(const tensor_set_ref& set, sequence<const rename_description> renames) noexcept {
    array<std::uint8_t> seen;  // by rename: 1 in turn, 2 as the names are
    if (!seen.resize(renames.size(), 0)) return failure{.code = errc::out_of_memory};
    for (std::size_t i = 0; i < set.size(); ++i) {
        text name;
        std::string_view current = set.spec(i).name;
        for (std::size_t r = 0; r < renames.size(); ++r) {
            const rename_description& each = renames[r];
            if (find_segments(set.spec(i).name, each.from, each.at_start) != std::string_view::npos) seen[r] |= 2;
            const std::size_t at = find_segments(current, each.from, each.at_start);
            if (at == std::string_view::npos) continue;
            seen[r] |= 1;
            if (r + 1 == renames.size()) continue;
            text next;
            if (!next.append(current.substr(0, at)) || !next.append(each.to) || !next.append(current.substr(at + each.from.size())))
                return failure{.code = errc::out_of_memory};
            name = std::move(next);
            current = name;
        }
    }
    rename_fit fit;
    for (const std::uint8_t each : seen) {
        fit.all = fit.all && (each & 1) != 0;
        fit.stored += (each & 2) != 0 ? 1 : 0;
    }
    return fit;
}

}  // namespace detail

/// The family that the names of a tensor set tell of, in the stored form or (with `unfuse`) the model's. Where families spell
/// stored experts alike, one whose renames all apply wins over one whose renames do not, and then the one that renames more of
/// what is there. Mixtral and Phi-MoE store the same names. In the model's form most families do: there, no family wins over
/// another one that could have made these names.
///   fails   unknown_family, ambiguous_family (the detail lists the candidates), out_of_memory
[[nodiscard]] inline result<const known_family*> detect_family(tensor_set_ref set, bool unfuse = false) noexcept {
    const known_family* best = nullptr;
    std::uint32_t best_score = 0;
    bool is_tied = false;
    text candidates;
    for (const known_family& each : known_families) {
        const family_description& family = unfuse ? each.unfuse : each.fuse;
        auto scopes = experts_scopes::find(set, family);
        if (!scopes) return std::move(scopes).error();
        bool fits = false;
        for (std::size_t i = 0; i < scopes->size(); ++i) fits = fits || (*scopes)[i].form != experts_form::to;
        if (!fits) continue;
        const auto renames = detail::fit_renames(set, family.renames);
        if (!renames) return renames.error();
        const std::uint32_t score = !renames->all ? 1 : unfuse ? 2 : 2 + renames->stored;
        if (score < best_score) continue;
        is_tied = score == best_score;
        if (!is_tied) candidates = text{};
        best = &each;
        best_score = score;
        if (is_tied) candidates.append(", ");
        candidates.append(each.fuse.name);
    }
    if (best == nullptr) return failure{.code = errc::unknown_family, .detail = known_family_names()};
    if (is_tied) return failure{.code = errc::ambiguous_family, .detail = std::move(candidates)};
    return best;
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
