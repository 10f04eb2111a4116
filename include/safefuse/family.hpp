// safefuse: a family: the two layouts of a kind of model, as stored on the hub and as the model holds it, and the names
// between them. Declarations only.
#ifndef SAFEFUSE_FAMILY_HPP
#define SAFEFUSE_FAMILY_HPP

#include <cstddef>
#include <span>
#include <string_view>

#include <safefuse/layout.hpp>
#include <safefuse/result.hpp>
#include <safefuse/sequence.hpp>

namespace safefuse::inline SAFEFUSE_ABI {

/// A run of whole dotted segments of a name, and what stands for it on the other side.
struct rename_description {
    std::string_view from;
    std::string_view to;
    bool at_start = false;  ///< only where the name begins with it
};

/// `Stored` in the checkpoint is `Model` in the loaded model: rename<"block_sparse_moe", "mlp">. A leading ^ in `Stored` holds it
/// to the beginning of the name.
template <fixed_text Stored, fixed_text Model>
struct rename {
    static constexpr bool at_start = Stored.view().starts_with('^');
    static constexpr rename_description description{Stored.view().substr(at_start ? 1 : 0), Model.view(), at_start};
    static constexpr rename_description inverse{description.to, description.from, at_start};
};

/// Renames that apply one after the other, each once; the way back applies their inverses in the opposite order.
template <class... Rename>
struct renames {
    static constexpr std::size_t count = sizeof...(Rename);

private:
    // one entry more than there are renames: an array has at least one
    static constexpr rename_description list[count + 1] = {Rename::description..., {}};
    static constexpr rename_description inverses[count + 1] = {Rename::inverse..., {}};
    struct reversed_list {
        rename_description list[count + 1];
    };
    static constexpr reversed_list reversed = [] {
        reversed_list out{};
        for (std::size_t i = 0; i < count; ++i) out.list[i] = inverses[count - 1 - i];
        return out;
    }();

public:
    static constexpr sequence<const rename_description> descriptions{list, count};
    static constexpr sequence<const rename_description> inverse{reversed.list, count};
};

/// A list of names: the model types of a family.
template <fixed_text... Name>
struct name_list {
    static constexpr std::size_t count = sizeof...(Name);
    static constexpr std::string_view list[count + 1] = {Name.view()..., {}};
    static constexpr sequence<const std::string_view> names{list, count};
};

/// The last segments of a scope: as the checkpoint spells them, and as the model does.
template <fixed_text Stored, fixed_text Model = Stored>
struct modules {
    static constexpr std::string_view stored = Stored.view();
    static constexpr std::string_view model = Model.view();
};

/// A family as data, in the direction in which plans are made: from the stored form to the model's, or back.
struct family_description {
    std::string_view name;
    const layout_description* from;
    const layout_description* to;
    std::string_view from_module;
    std::string_view to_module;
    sequence<const rename_description> renames;
    sequence<const std::string_view> model_types;
};

/// What a family declares: derive from family<Stored, Model> and add `name`, `modules` and, where there are any, `renames` and
/// `model_types`.
template <layout_type Stored, layout_type Model>
struct family {
    static_assert(can_become<Stored, Model> && can_become<Model, Stored>,
                  "safefuse: the two layouts of a family must place the same parts");
    using stored = Stored;
    using model = Model;
    using renames = safefuse::renames<>;
    using model_types = name_list<>;
};

/// A type that declares a family.
template <class Family>
concept family_type = requires {
    requires layout_type<typename Family::stored>;
    requires layout_type<typename Family::model>;
    static_cast<std::string_view>(Family::name);
    static_cast<std::string_view>(Family::modules::stored);
    static_cast<std::string_view>(Family::modules::model);
    static_cast<sequence<const rename_description>>(Family::renames::descriptions);
    static_cast<sequence<const std::string_view>>(Family::model_types::names);
};

/// A family type as data: the way from the hub to the model.
template <family_type Family>
inline constexpr family_description description_of{
    Family::name,           &Family::stored::description,  &Family::model::description, Family::modules::stored,
    Family::modules::model, Family::renames::descriptions, Family::model_types::names,
};

/// A family type as data: the way from the model back to the hub, by which plans unfuse.
template <family_type Family>
inline constexpr family_description inverse_of{
    Family::name,            &Family::model::description, &Family::stored::description, Family::modules::model,
    Family::modules::stored, Family::renames::inverse,    Family::model_types::names,
};

namespace detail {

/// Where `segments` stand in `name` as whole dotted segments, at its start or anywhere; npos where they do not.
constexpr std::size_t find_segments(std::string_view name, std::string_view segments, bool at_start = false) noexcept {
    if (segments.empty()) return std::string_view::npos;
    for (std::size_t i = name.find(segments); i != std::string_view::npos; i = name.find(segments, i + 1)) {
        const bool begins = i == 0 || (!at_start && name[i - 1] == '.');
        const bool ends = i + segments.size() == name.size() || name[i + segments.size()] == '.';
        if (begins && ends) return i;
        if (at_start) break;
    }
    return std::string_view::npos;
}

}  // namespace detail

/// What a tensor, or a prefix of whole segments, is called on the other side.
///   fails   out_of_memory
[[nodiscard]] inline result<text> renamed(const family_description& family, std::string_view name) noexcept {
    text out{name};
    bool whole = out.size() == name.size();
    for (const rename_description& each : family.renames) {
        const std::size_t i = detail::find_segments(out, each.from, each.at_start);
        if (i == std::string_view::npos) continue;
        text next;
        whole = next.append(out.view().substr(0, i)) && next.append(each.to) && next.append(out.view().substr(i + each.from.size())) && whole;
        out = std::move(next);
    }
    if (!whole) return failure{.code = errc::out_of_memory};
    return out;
}

}  // namespace safefuse::inline SAFEFUSE_ABI

#endif
