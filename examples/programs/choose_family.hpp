// Finds the family of a checkpoint and the form of its experts. All programs that fuse do this
// first.
#ifndef SAFEFUSE_EXAMPLES_CHOOSE_FAMILY_HPP
#define SAFEFUSE_EXAMPLES_CHOOSE_FAMILY_HPP

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/safefuse.hpp>

namespace choose_family {

namespace sf = safefuse;

enum class direction { fuse, unfuse, repack };

/// The options of the command line.
struct request {
    /// --family: a family or a model type. Empty: from config.json, or else from names.
    std::string family{};
    /// --to: hub or per-expert. Empty: the remembered form, or else the hub's.
    std::string form{};
    direction way = direction::fuse;
    bool any_expert_count = false;
    bool keep_unknown = false;
};

/// The family of a checkpoint, and the extents in config.json that its tensors must agree with.
struct choice {
    sf::family_description family{};  ///< the family to plan with, in either direction
    /// The registered family, with the hub's form and all renames.
    const sf::family_description* own = nullptr;
    /// The remembered form. The family may refer to it.
    std::unique_ptr<sf::stored_spelling> spelling;
    bool is_told = false;    ///< chosen by model type or command line, not by names
    std::string model_type;  ///< of config.json
    std::vector<sf::known_extent> extents;
    std::vector<std::string> notes;  ///< notes to print, one line each

    /// Options for plans, with the extents that they must agree with.
    [[nodiscard]] sf::plan_options options(bool keep_unknown = false) const {
        return {.known_extents = {extents.data(), extents.size()}, .keep_unknown = keep_unknown};
    }
};

inline std::string text_of(const sf::text& text) { return std::string{text.view()}; }

/// The recorded stored form of a fused checkpoint, or empty.
template <class Checkpoint>
std::string remembered(const Checkpoint& checkpoint) {
    std::string_view value;
    if (checkpoint.file_count() != 0 &&
        checkpoint.file(0).header().find_metadata(sf::stored_spelling::metadata_key, value))
        return std::string{value};
    return {};
}

/// A family for checkpoints without experts or with experts in an unknown form: the plan reports
/// everything that looks like an expert.
inline sf::family_description no_family() {
    return sf::experts_only(*sf::find_family("qwen2_moe"));
}

/// Chooses a family by names. Its plans include only the experts.
inline sf::result<void> choose_by_names(choice& out, sf::tensor_set_ref tensors,
                                        const request& asked) {
    const bool unfuse = asked.way == direction::unfuse;
    auto found =
        sf::detect_experts(tensors, unfuse ? sf::direction::inverse : sf::direction::forward);
    if (found) {
        out.family = *found;
        out.own = sf::find_family(found->name);
        return {};
    }
    sf::failure why = std::move(found).error();
    if (why.code == sf::errc::ambiguous_family) {
        sf::text detail;
        if (!out.model_type.empty()) {
            detail.append("config.json has model_type ");
            detail.append(out.model_type);
            detail.append(", which is unknown; ");
        }
        detail.append("the names fit ");
        detail.append(why.detail);
        detail.append("; choose one with --family NAME");
        why.detail = detail;
        // repacking ignores names: any of the families plans the experts
        if (asked.way != direction::repack) return why;
    } else if (why.code != sf::errc::unknown_family) {
        return why;
    }
    // no experts have the source form; they may already have the wanted form
    if (auto already = sf::detect_fused(tensors); already && !unfuse) {
        out.family = *already;
    } else if (auto stored = sf::detect_experts(tensors); unfuse && stored) {
        out.family = *stored;
    } else {
        out.family = no_family();
        if (asked.way == direction::repack)
            for (const sf::family_description& each : sf::shipped_families::all) {
                const auto scopes = sf::experts_scopes::find(tensors, each);
                if (!scopes || scopes->experts_count() == 0) continue;
                out.family = sf::experts_only(each);
                break;
            }
    }
    out.own = sf::find_family(out.family.name);
    return {};
}

/// Chooses the family. The first of these that exists is used: the family of the command line, the
/// one recorded when the checkpoint was fused, the one of model_type in config.json (or of its
/// language model), the one that the names identify.
///   directory   where config.json is
template <class Checkpoint>
sf::result<choice> choose(const std::string& directory, const Checkpoint& checkpoint,
                          const request& asked) {
    choice out;
    const sf::tensor_set_ref tensors{checkpoint};
    const bool unfuse = asked.way == direction::unfuse;
    const auto config = sf::read_model_config(directory);
    const bool is_broken = !config && config.error().code != sf::errc::file_not_found;
    if (is_broken && asked.family.empty()) {
        sf::failure why = config.error();
        if (!why.detail.empty()) why.detail.append("; ");
        why.detail.append("it is not needed with --family NAME");
        return why;
    }
    if (is_broken)
        out.notes.push_back(text_of(config.error().message()) +
                            ": not used, because --family is given");
    const sf::family_description* own = nullptr;
    std::string_view type;
    if (config) {
        out.model_type = config->model_type.view();
        for (const sf::text* each : {&config->model_type, &config->text_model_type})
            if (own == nullptr && (own = sf::find_family(*each)) != nullptr) type = each->view();
        if (type.empty())
            type = config->model_type.empty() ? config->text_model_type.view()
                                              : config->model_type.view();
    }
    if (!asked.family.empty()) {
        own = sf::find_family(asked.family);
        type = asked.family;
        if (own == nullptr) {
            sf::text detail{asked.family};
            detail.append(": ");
            detail.append(sf::family_names());
            return sf::failure{.code = sf::errc::unknown_family, .detail = detail};
        }
    }
    if (config && !asked.any_expert_count)
        if (const std::uint64_t count = config->expert_count_for(type); count != sf::unknown)
            out.extents.push_back({"E", count});

    const std::string kept = remembered(checkpoint);
    if (unfuse && !kept.empty() && asked.family.empty() && asked.form.empty()) {
        auto spelling = sf::stored_spelling::parse(kept);
        if (!spelling) return std::move(spelling).error();
        out.spelling = std::make_unique<sf::stored_spelling>(std::move(*spelling));
        const auto family = out.spelling->family();
        if (!family) return family.error();
        out.family = *family;
        out.own = sf::find_family(family->name);
        out.is_told = true;
        out.notes.push_back("stored form, as recorded when the checkpoint was fused: " + kept);
    } else if (own != nullptr) {
        out.own = own;
        out.family = *own;
        out.is_told = true;
        if (!asked.form.empty()) {
            auto form = sf::with_named_form(*own, asked.form);
            if (!form) return std::move(form).error();
            out.family = *form;
        } else if (!unfuse) {
            auto form = sf::with_stored_form_of(tensors, *own, out.options());
            if (!form) return std::move(form).error();
            out.family = *form;
        }
    } else {
        if (auto done = choose_by_names(out, tensors, asked); !done) return std::move(done).error();
        const auto scopes = sf::experts_scopes::find(tensors, out.family);
        if (!scopes) return scopes.error();
        bool any_to_fuse = false;
        for (std::size_t s = 0; s < scopes->experts_count(); ++s)
            any_to_fuse = any_to_fuse || (*scopes)[s].form != sf::scope_state::done;
        const std::string known = out.model_type.empty()
                                      ? std::string{"no model_type"}
                                      : "model_type " + out.model_type + " is unknown";
        if (any_to_fuse && asked.way != direction::repack)
            out.notes.push_back(known + ": by their names, the experts are those of family " +
                                std::string{out.family.name} +
                                "; only the experts are fused, and nothing is renamed");
        else if (scopes->experts_count() != 0 && !unfuse && asked.way != direction::repack)
            out.notes.push_back(known + ": the experts are fused already");
    }
    for (const sf::config_extent& each : out.family.config_extents) {
        const auto number = is_broken ? sf::result<std::uint64_t>{sf::unknown}
                                      : sf::read_config_number(directory, each.key);
        if (!number && number.error().code != sf::errc::file_not_found) return number.error();
        if (number && *number != sf::unknown) out.extents.push_back({each.name, *number});
    }
    return out;
}

/// Checks that the experts which a family plans have elements.
inline sf::result<void> check_elements(sf::tensor_set_ref tensors,
                                       const sf::family_description& family) {
    const auto scopes = sf::experts_scopes::find(tensors, family);
    if (!scopes) return scopes.error();
    return sf::check_experts_have_elements(tensors, family, *scopes);
}

/// Adds a hint to a failure about experts in an unknown form: the family that has this form, or the
/// option that passes them through.
inline void add_hint(sf::failure& why, const choice& chosen, sf::tensor_set_ref tensors) {
    if (why.code == sf::errc::unexpected_extent)
        why.detail.append(", as in config.json; --any-expert-count accepts any number");
    if (why.code != sf::errc::unknown_experts && why.code != sf::errc::unexpected_key) return;
    if (const auto other = sf::detect_experts(tensors);
        why.code == sf::errc::unknown_experts && other && other->name != chosen.family.name) {
        why.detail.append("; the names are those of family ");
        why.detail.append(other->name);
        why.detail.append(": --family ");
        why.detail.append(other->name);
    }
    if (!why.detail.empty()) why.detail.append("; ");
    why.detail.append("--keep-unknown passes them through unchanged");
}

}  // namespace choose_family

#endif
