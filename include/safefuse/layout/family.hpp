// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a family: the layout that a kind of model has on the hub, the layout in the model, and
// the renames between them. Declarations only.
#ifndef SAFEFUSE_LAYOUT_FAMILY_HPP
#define SAFEFUSE_LAYOUT_FAMILY_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/layout/rename.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The last segments of a scope, as they are in the checkpoint and in the model.
template <fixed_text Stored, fixed_text Model = Stored>
struct at_path {
    static constexpr std::string_view stored = Stored.view();  ///< on the hub
    static constexpr std::string_view model = Model.view();    ///< in the model
};

/// A kind of module as data: its path and its layouts, in the direction of a plan.
struct module_description {
    std::string_view from_path;      ///< last segments of its name
    std::string_view to_path;        ///< last segments of its new name
    const layout_description* from;  ///< what is stored; never null
    const layout_description* to;    ///< what is made; never null

    /// True if both forms are identical.
    [[nodiscard]] constexpr bool is_same() const noexcept {
        return from == to && from_path == to_path;
    }
    /// The module in the other direction.
    [[nodiscard]] constexpr module_description reversed() const noexcept {
        return {to_path, from_path, to, from};
    }
};

/// Another form in which tools store a family's experts, with the way to the model's form.
struct stored_form_description {
    std::string_view name;      ///< the name to select it by, for example per-expert
    module_description module;  ///< its path and both layouts
    /// If true, a checkpoint with shared experts in this form belongs to another family.
    bool excludes_shared_experts = false;
};

/// An extent that does not follow from the shapes, and its key in config.json.
struct config_extent {
    std::string_view name;  ///< as a layout names it: "E"
    std::string_view key;   ///< with dots between objects: vision_config.num_attention_heads
};

/// A config_extent as a type.
template <fixed_text Name, fixed_text Key>
struct extent_in_config {
    /// The extent as data.
    static constexpr config_extent description{Name.view(), Key.view()};
};
/// All config_extents of a family.
template <class... Extent>
struct extents_in_config {
    static constexpr std::size_t count = sizeof...(Extent);  ///< how many
    /// The extents, and an empty one at the end because an array needs at least one entry.
    static constexpr config_extent list[count + 1] = {Extent::description..., {}};
    static constexpr span<const config_extent> descriptions{list, count};  ///< as data
};

/// The direction in which a family_description is read.
enum class direction : std::uint8_t {
    forward,  ///< as given. A declared family leads from the stored form to the model's (fuse)
    inverse,  ///< the other way: from the model's form to the stored one (unfuse)
};

/// A family as data. As declared, it leads from the stored form to the model's. Functions that take
/// a direction read it in that direction; so does in().
struct family_description {
    /// Unique among families.
    std::string_view name;
    /// Layout of the experts.
    const layout_description* from;
    /// Layout of the experts.
    const layout_description* to;
    /// Last segments of a scope to plan from.
    std::string_view from_module;
    /// Last segments of the resulting scope.
    std::string_view to_module;
    /// Renames of all other tensors.
    rename_list renames;
    /// Model types of config.json.
    span<const std::string_view> model_types;
    /// Other modules that the model stores differently from the hub.
    span<const module_description> extra_modules{};
    /// Extents that plans need as known_extents.
    span<const config_extent> config_extents{};
    /// Other forms in which tools store the experts; see with_stored_form.
    span<const stored_form_description> forms{};
    /// Experts modules with a tensor of such a name are passed through unchanged.
    span<const std::string_view> passing{};
    /// Read in the direction opposite to the declaration; in() sets it. `extra_modules` and `forms`
    /// are data as declared: module_at and with_stored_form turn them.
    bool is_inverse = false;

    /// Number of kinds of modules that are planned: the experts and the extra modules.
    [[nodiscard]] constexpr std::size_t module_count() const noexcept {
        return 1 + extra_modules.size();
    }
    /// Kind i of modules. 0 is the experts.
    [[nodiscard]] SAFEFUSE_NOINLINE constexpr module_description module_at(
        std::size_t i) const noexcept {
        if (i == 0) return {from_module, to_module, from, to};
        const module_description& other = extra_modules[i - 1];
        return is_inverse ? other.reversed() : other;
    }
    /// The direction in which the family is read, compared with its declaration.
    [[nodiscard]] constexpr direction way() const noexcept {
        return is_inverse ? direction::inverse : direction::forward;
    }
    /// The family, read in a direction: both layouts and paths are swapped, the renames are
    /// inverted and apply in reverse order. Nothing is copied but views.
    ///   @post  in(direction::inverse).in(direction::inverse) is the family itself
    [[nodiscard]] constexpr family_description in(direction way) const noexcept {
        family_description out = *this;
        if (way == direction::forward) return out;
        out.from = to;
        out.to = from;
        out.from_module = to_module;
        out.to_module = from_module;
        out.renames = renames.reversed();
        out.is_inverse = !is_inverse;
        return out;
    }
    /// The family, read from the model to the hub, however this one is read.
    [[nodiscard]] constexpr family_description inverse() const noexcept {
        return is_inverse ? *this : in(direction::inverse);
    }
};

/// Modules without experts, or with other experts, that a family's models store differently from
/// the hub: their paths and both layouts.
template <class Modules, class Stored, class Model>
struct extra_module {
    static_assert(can_become<Stored, Model> && can_become<Model, Stored>,
                  "safefuse: the two layouts of a family must place the same parts");
    /// From the hub to the model, as data.
    static constexpr module_description description{Modules::stored, Modules::model,
                                                    &Stored::description, &Model::description};
};

/// All extra modules of a family.
template <class... Module>
struct extra_module_list {
private:
    static constexpr std::size_t count = sizeof...(Module);
    // one more entry than modules, because an array needs at least one
    static constexpr module_description list[count + 1] = {Module::description..., {}};

public:
    /// From the hub to the model, as data.
    static constexpr span<const module_description> descriptions{list, count};
};

/// Whether a family's own models have shared experts. If they have none, a checkpoint with shared
/// experts belongs to another family.
enum class shared_experts : bool { none, some };

/// Another stored form: its name, its path and its layout.
template <fixed_text Name, class Modules, class Layout,
          shared_experts Shared = shared_experts::some>
struct stored_form {
    /// From this form to the model's form, as data.
    template <class Model>
    static constexpr stored_form_description description{
        Name.view(),
        {Modules::stored, Modules::model, &Layout::description, &Model::description},
        Shared == shared_experts::none};
    /// Whether the two layouts place the same parts.
    template <class Model>
    static constexpr bool is_complete = can_become<Layout, Model> && can_become<Model, Layout>;
};

/// All other stored forms of a family.
template <class... Form>
struct stored_forms {
    /// The forms as data, for the layout in the model.
    template <class Model>
    struct of {
        static_assert((Form::template is_complete<Model> && ...),
                      "safefuse: the two layouts of a family must place the same parts");
        static constexpr std::size_t count = sizeof...(Form);  ///< how many
        /// The forms, and an empty one at the end because an array needs at least one entry.
        static constexpr stored_form_description list[count + 1] = {
            Form::template description<Model>..., {}};
        /// From the stored forms to the model's, as data.
        static constexpr span<const stored_form_description> descriptions{list, count};
    };
};

/// The renames of several lists, list by list. Converts to a span.
template <std::size_t Count>
struct rename_array {
    rename_description list[Count];  ///< in the order in which they apply
    /// All of them.
    constexpr operator span<const rename_description>() const noexcept { return {list, Count}; }
};

/// Joins the lists of renames of several families, list by list.
template <std::size_t... Count>
[[nodiscard]] consteval rename_array<(Count + ...)> joined_renames(
    const rename_description (&... lists)[Count]) noexcept {
    rename_array<(Count + ...)> out{};
    std::size_t size = 0;
    const auto append = [&](span<const rename_description> list) {
        for (const rename_description& each : list) out.list[size++] = each;
    };
    (append(span<const rename_description>{lists, Count}), ...);
    return out;
}

/// The base of a family: its name, the layout on the hub, the layout in the model, and the path of
/// the experts if it is not mlp.experts.
///   struct jamba : family<"jamba", per_expert, gate_up_fused, at_path<"feed_forward.experts">> {};
/// The derived type declares the members that differ from the defaults here: `model_types`,
/// `renames`, `extra_modules`, `config_extents`, `forms`, `passing`. If the model has the experts
/// in the form of the hub, both layouts are the same type. A declaration takes almost no time to
/// compile. It is checked when it is first used.
template <fixed_text Name, class Stored, class Model, class Modules = at_path<"mlp.experts">>
struct family {
    static_assert(!Name.view().empty(), "safefuse: a family has a name: family<\"mine\", ...>");
    /// Unique among families.
    static constexpr std::string_view name = Name.view();
    /// The layout on the hub.
    using stored = Stored;
    /// The layout in the model.
    using model = Model;
    /// The path of the experts.
    using modules = Modules;
    /// Renames in the order in which they apply. Default: none.
    static constexpr span<const rename_description> renames{};
    /// Of config.json; the one that is called as the family is.
    // Its size is written, because g++ 13 does not know it in a template before its first use.
    static constexpr std::string_view model_types[1] = {Name.view()};
    /// What else the model stores otherwise; nothing.
    using extra_modules = extra_module_list<>;
    /// Extents that plans need from config.json. Default: none.
    using config_extents = extents_in_config<>;
    /// Other forms in which tools store the experts. Default: none.
    using forms = stored_forms<>;
    /// Names in an experts module, such as those of scales, that mark a form which models load as
    /// stored. Default: none.
    static constexpr span<const std::string_view> passing{};
};

/// A type that declares a family.
template <class Family>
concept family_type = requires {
    requires layout_type<typename Family::stored>;
    requires layout_type<typename Family::model>;
    static_cast<std::string_view>(Family::name);
    static_cast<std::string_view>(Family::modules::stored);
    static_cast<std::string_view>(Family::modules::model);
    span<const rename_description>{Family::renames};
    span<const std::string_view>{Family::model_types};
    static_cast<span<const module_description>>(Family::extra_modules::descriptions);
    static_cast<span<const config_extent>>(Family::config_extents::descriptions);
    span<const std::string_view>{Family::passing};
};

namespace detail {

/// Checks a family, and gives it as data.
template <family_type Family>
struct checked_family {
    static_assert(can_become<typename Family::stored, typename Family::model> &&
                      can_become<typename Family::model, typename Family::stored>,
                  "safefuse: the two layouts of a family must place the same parts");
    static constexpr span<const rename_description> renames{Family::renames};
    static_assert(
        are_renames(renames),
        "safefuse: a rename takes whole dotted segments, with {i} for digits, as many on both "
        "sides, and ^ only in front of the stored ones");
    static constexpr family_description description{
        Family::name,
        &Family::stored::description,
        &Family::model::description,
        Family::modules::stored,
        Family::modules::model,
        rename_list{renames.data(), renames.size(), false},
        Family::model_types,
        Family::extra_modules::descriptions,
        Family::config_extents::descriptions,
        Family::forms::template of<typename Family::model>::descriptions,
        Family::passing,
    };
};

}  // namespace detail

/// The family with one of its `forms` instead of the hub's form, read in the direction of the
/// family. The renames do not change.
[[nodiscard]] constexpr family_description with_stored_form(
    family_description family, const stored_form_description& form) noexcept {
    const module_description module = family.is_inverse ? form.module.reversed() : form.module;
    family.from = module.from;
    family.to = module.to;
    family.from_module = module.from_path;
    family.to_module = module.to_path;
    return family;
}

/// The family reduced to its experts: everything else keeps its name and its form, so renames no
/// longer identify the family.
[[nodiscard]] constexpr family_description experts_only(family_description family) noexcept {
    family.renames = {};
    family.extra_modules = {};
    return family;
}

/// A family type as data, from the hub to the model.
template <family_type Family>
inline constexpr const family_description& description_of =
    detail::checked_family<Family>::description;

/// The name of a tensor, or of a prefix of whole segments, in the other form.
///   fails   out_of_memory
[[nodiscard]] inline result<text> renamed(const family_description& family,
                                          std::string_view name) noexcept {
    return renamed(family.renames, name);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
