// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a family: the two layouts of a kind of model, as stored on the hub and as the model
// holds it, and the names between them. Declarations only.
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

/// The last segments of a scope: as the checkpoint spells them, and as the model does.
template <fixed_text Stored, fixed_text Model = Stored>
struct at_path {
    static constexpr std::string_view stored = Stored.view();  ///< on the hub
    static constexpr std::string_view model = Model.view();    ///< in the model
};

/// A kind of module as data: where it lies and what it stores, in the direction in which plans are
/// made.
struct module_description {
    std::string_view from_path;      ///< the last segments of its name
    std::string_view to_path;        ///< the last segments of the name that it gets
    const layout_description* from;  ///< what is there; never null
    const layout_description* to;    ///< what is made; never null

    /// Whether there is nothing to do for it.
    [[nodiscard]] constexpr bool is_same() const noexcept {
        return from == to && from_path == to_path;
    }
    /// The other way round.
    [[nodiscard]] constexpr module_description reversed() const noexcept {
        return {to_path, from_path, to, from};
    }
};

/// A further form in which tools store a family's experts: from that form to the model's.
struct stored_form_description {
    std::string_view name;      ///< what it is asked for by: per-expert
    module_description module;  ///< where it lies, and both layouts
    bool excludes_shared_experts =
        false;  ///< a checkpoint with shared experts is of another family, whose form this is
};

/// An extent that shapes do not tell, and where config.json has it.
struct config_extent {
    std::string_view name;  ///< as a layout spells it: "E"
    std::string_view key;   ///< with dots between objects: vision_config.num_attention_heads
};

/// Such an extent as a type.
template <fixed_text Name, fixed_text Key>
struct extent_in_config {
    /// The extent as data.
    static constexpr config_extent description{Name.view(), Key.view()};
};
/// All of these that a family has.
template <class... Extent>
struct extents_in_config {
    static constexpr std::size_t count = sizeof...(Extent);  ///< how many
    /// With an empty one behind the last: an array has at least one entry.
    static constexpr config_extent list[count + 1] = {Extent::description..., {}};
    static constexpr span<const config_extent> descriptions{list, count};  ///< as data
};

/// Which way a plan goes, as a family_description has it.
enum class direction : std::uint8_t {
    forward,  ///< from `from` to `to`: of description_of<Family>, from the hub to the model
    inverse,  ///< from `to` to `from`
};

/// A family as data, in the direction in which plans are made: from the stored form to the model's,
/// or back.
struct family_description {
    std::string_view name;           ///< unique among families
    const layout_description* from;  ///< of the experts
    const layout_description* to;    ///< of the experts
    std::string_view from_module;    ///< the last segments of a scope that is planned from
    std::string_view to_module;      ///< and of the scope that it becomes
    rename_list renames;             ///< of all other tensors
    span<const std::string_view> model_types;  ///< of config.json
    span<const module_description>
        extra_modules{};  ///< what the model stores otherwise beside the experts
    span<const config_extent> config_extents{};  ///< what plans must be given as known_extents
    span<const stored_form_description>
        forms{};  ///< how else tools store the experts; with_stored_form takes one
    span<const std::string_view>
        passing{};            ///< experts modules with a tensor of such a name are left as they are
    bool is_inverse = false;  ///< `others` and `forms` are described the other way round

    /// How many kinds of modules are planned: the experts and the others.
    [[nodiscard]] constexpr std::size_t module_count() const noexcept {
        return 1 + extra_modules.size();
    }
    /// Module 0 is the experts'.
    [[nodiscard]] SAFEFUSE_NOINLINE constexpr module_description module_at(
        std::size_t i) const noexcept {
        if (i == 0) return {from_module, to_module, from, to};
        const module_description& other = extra_modules[i - 1];
        return is_inverse ? other.reversed() : other;
    }
    /// The family in a direction.
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
};

/// Modules without experts, or with other ones, that a family's models store otherwise than the
/// hub: where they lie, and both layouts.
template <class Modules, class Stored, class Model>
struct extra_module {
    static_assert(can_become<Stored, Model> && can_become<Model, Stored>,
                  "safefuse: the two layouts of a family must place the same parts");
    /// From the hub to the model, as data.
    static constexpr module_description description{Modules::stored, Modules::model,
                                                    &Stored::description, &Model::description};
};

/// All of these that a family has.
template <class... Module>
struct extra_module_list {
private:
    static constexpr std::size_t count = sizeof...(Module);
    // one entry more than there are modules: an array has at least one
    static constexpr module_description list[count + 1] = {Module::description..., {}};

public:
    /// From the hub to the model, as data.
    static constexpr span<const module_description> descriptions{list, count};
};

/// Whether a family's own models have shared experts: where they have none, a checkpoint that has
/// them is another family's.
enum class shared_experts : bool { none, some };

/// A further stored form: its name, where it lies and its layout.
template <fixed_text Name, class Modules, class Layout,
          shared_experts Shared = shared_experts::some>
struct stored_form {
    /// From it to the model's form, as data.
    template <class Model>
    static constexpr stored_form_description description{
        Name.view(),
        {Modules::stored, Modules::model, &Layout::description, &Model::description},
        Shared == shared_experts::none};
    /// Whether the two layouts place the same parts.
    template <class Model>
    static constexpr bool is_complete = can_become<Layout, Model> && can_become<Model, Layout>;
};

/// All of these that a family has.
template <class... Form>
struct stored_forms {
    /// The forms as data, for the layout that the model holds.
    template <class Model>
    struct of {
        static_assert((Form::template is_complete<Model> && ...),
                      "safefuse: the two layouts of a family must place the same parts");
        static constexpr std::size_t count = sizeof...(Form);  ///< how many
        /// With an empty one behind the last: an array has at least one entry.
        static constexpr stored_form_description list[count + 1] = {
            Form::template description<Model>..., {}};
        /// From the stored forms to the model's, as data.
        static constexpr span<const stored_form_description> descriptions{list, count};
    };
};

/// Renames of several lists, one list after the other. It converts to a span of them.
template <std::size_t Count>
struct rename_array {
    rename_description list[Count];  ///< in the order in which they apply
    /// All of them.
    constexpr operator span<const rename_description>()
        const noexcept {  // NOLINT: it is meant to convert
        return {list, Count};
    }
};

/// The renames of several lists, one list behind the other, for families that share some.
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

/// What a family declares: its name, the layout on the hub, the layout in the model, and where the
/// experts are if not at mlp.experts.
///   struct jamba : family<"jamba", per_expert, gate_up_fused, at_path<"feed_forward.experts">> {};
/// What differs from the members here is declared in the derived type: `model_types`, `renames`,
/// `extra_modules`, `config_extents`, `forms`, `passing`. If models hold experts as the hub stores
/// them, both layouts are the same. A declaration costs the compiler next to nothing; it is checked
/// where it is used first.
template <fixed_text Name, class Stored, class Model, class Modules = at_path<"mlp.experts">>
struct family {
    static_assert(!Name.view().empty(), "safefuse: a family has a name: family<\"mine\", ...>");
    /// Unique among families.
    static constexpr std::string_view name = Name.view();
    /// The layout on the hub.
    using stored = Stored;
    /// The layout in the model.
    using model = Model;
    /// Where the experts are.
    using modules = Modules;
    /// In the order in which they apply; none.
    static constexpr span<const rename_description> renames{};
    /// Of config.json; the one that is called as the family is.
    static constexpr std::string_view model_types[] = {Name.view()};
    /// What else the model stores otherwise; nothing.
    using extra_modules = extra_module_list<>;
    /// What plans must be told from config.json; nothing.
    using config_extents = extents_in_config<>;
    /// How else tools store the experts; not at all.
    using forms = stored_forms<>;
    /// Names in an experts module, such as those of factors of codes, that tell of a form that
    /// models load as it is stored; none.
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

/// A family, checked, and as data both ways.
template <family_type Family>
struct family_ways {
    static_assert(can_become<typename Family::stored, typename Family::model> &&
                      can_become<typename Family::model, typename Family::stored>,
                  "safefuse: the two layouts of a family must place the same parts");
    static constexpr span<const rename_description> renames{Family::renames};
    static_assert(
        are_renames(renames),
        "safefuse: a rename takes whole dotted segments, with {i} for digits, as many on both "
        "sides, and ^ only in front of the stored ones");
    static constexpr family_description there{
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
    static constexpr family_description back = there.in(direction::inverse);
};

}  // namespace detail

/// The family, in its direction, with one of its further forms in the place of the hub's. Its names
/// are those of the family.
[[nodiscard]] constexpr family_description with_stored_form(
    family_description family, const stored_form_description& form) noexcept {
    const module_description module = family.is_inverse ? form.module.reversed() : form.module;
    family.from = module.from;
    family.to = module.to;
    family.from_module = module.from_path;
    family.to_module = module.to_path;
    return family;
}

/// The family as far as experts go: everything else keeps its name and its form. What names alone
/// tell of a model is no more.
[[nodiscard]] constexpr family_description experts_only(family_description family) noexcept {
    family.renames = {};
    family.extra_modules = {};
    return family;
}

/// A family type as data: the way from the hub to the model.
template <family_type Family>
inline constexpr const family_description& description_of = detail::family_ways<Family>::there;

/// A family type as data: the way from the model back to the hub, by which plans unfuse.
template <family_type Family>
inline constexpr const family_description& inverse_of = detail::family_ways<Family>::back;

/// What a tensor, or a prefix of whole segments, is called on the other side.
///   fails   out_of_memory
[[nodiscard]] inline result<text> renamed(const family_description& family,
                                          std::string_view name) noexcept {
    return renamed(family.renames, name);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
