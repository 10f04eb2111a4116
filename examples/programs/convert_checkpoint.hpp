// Makes a fused, unfused or repacked checkpoint and copies its side files. fuse_checkpoint,
// unfuse_checkpoint and repack_checkpoint each do this in one direction. verify_fused and inspect
// choose the family in the same way.
#ifndef SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP
#define SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <safefuse/safefuse.hpp>

#include "choose_family.hpp"
#include "command_line.hpp"
#include "rewrite_config.hpp"
#include "side_files.hpp"

namespace convert_checkpoint {

namespace sf = safefuse;

/// Whether the checkpoint at a path is finished: no run is writing it, and none was interrupted.
inline sf::result<void> check_finished(const std::string& path) {
    std::error_code ignored;
    const std::filesystem::path directory = directory_of(path);
    if (!std::filesystem::exists(directory / path_of(std::string{sf::writer_state_file}), ignored))
        return {};
    return sf::failure{
        .code = sf::errc::no_checkpoint,
        .file = sf::text{text_of(directory)},
        .detail =
            "a run that writes to it was interrupted or is still active; --resume with the same "
            "options continues it"};
}

/// Prints one sentence and a hint on stderr for a plan that failed. Returns the exit status.
inline int report_plan(sf::failure failure, const choose_family::choice& chosen,
                       sf::tensor_set_ref tensors) {
    choose_family::add_hint(failure, chosen, tensors);
    return command_line::report(failure);
}

/// The metadata of the checkpoint's files if all agree, otherwise {"format": "pt"}. The views point
/// into the checkpoint.
template <class Checkpoint>
std::vector<sf::metadata_entry> metadata_of(const Checkpoint& checkpoint) {
    std::vector<sf::metadata_entry> common;
    const auto& first = checkpoint.file(0).header();
    for (std::size_t i = 0; i < first.metadata_size(); ++i) {
        const sf::metadata_entry entry = first.metadata(i);
        bool everywhere = true;
        for (std::size_t f = 1; f < checkpoint.file_count(); ++f) {
            std::string_view value;
            everywhere = everywhere &&
                         checkpoint.file(f).header().find_metadata(entry.key, value) &&
                         value == entry.value;
        }
        // the places at which PyTorch's distributed checkpoints split tensors; they are wrong after
        // a rewrite
        if (everywhere && entry.key != "DCP_SHARDING_INFO") common.push_back(entry);
    }
    bool has_format = false;
    for (const sf::metadata_entry& entry : common) has_format = has_format || entry.key == "format";
    if (!has_format) common.push_back(sf::pytorch_metadata[0]);
    return common;
}

/// Number of experts modules that already have the wanted form. If both forms have the same names,
/// the plan decides by the shapes.
inline std::size_t already_done(const sf::rewrite_plan& plan) {
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < plan.scopes().experts_count(); ++i) {
        const bool is_done = plan.scopes()[i].form == sf::scope_state::done;
        const auto made = is_done ? sf::result<sf::copy_plan>{sf::failure{}} : plan.plan_of(i);
        count += is_done || (made && made->source_form() == sf::scope_state::done) ? 1u : 0u;
    }
    return count;
}

/// A name without its last segment: the module of a parameter.
inline std::string module_of(std::string_view name) {
    return std::string{name.substr(0, name.rfind('.') == name.npos ? 0 : name.rfind('.'))};
}

/// The modules that fusing or unfusing replaces, as config.json may list them. A scope without a
/// plan is skipped, because the rewrite reports it.
inline std::vector<rewrite_config::renewal> renewals_of(const sf::rewrite_plan& plan, bool unfuse) {
    std::vector<rewrite_config::renewal> all;
    for (std::uint32_t s = 0; s < plan.scopes().experts_count(); ++s) {
        const sf::experts_scope scope = plan.scopes()[s];
        if (scope.form != sf::scope_state::pending) continue;
        if (!unfuse) {
            all.push_back({std::string{scope.name}, true, {std::string{scope.destination_name}}});
            continue;
        }
        const auto made = plan.plan_of(s);
        if (!made) continue;
        // the experts of the whole module, and the experts of each of its parameters
        const std::size_t first = all.size();
        all.push_back({std::string{scope.name}, false, {}});
        const auto add = [](std::vector<std::string>& to, std::string name) {
            if (std::find(to.begin(), to.end(), name) == to.end()) to.push_back(std::move(name));
        };
        for (const sf::plan_output& output : made->outputs())
            add(all[first].to, module_of(output.name));
        for (const std::uint32_t tensor : made->source_tensors()) {
            const sf::tensor_location place = plan.set().place(tensor);
            all.push_back({std::string{plan.set().spec(tensor).name}, false, {}});
            for (const sf::copy_block& block : made->blocks())
                if (block.source == place.source && block.source_offset >= place.offset &&
                    block.source_offset < place.offset + place.size_bytes)
                    add(all.back().to, module_of(made->outputs()[block.output].name));
        }
        // in the order of the experts, as quantisers list them
        const auto number = [&](const std::string& name) {
            const std::size_t at = scope.destination_name.size() + 1;
            return name.size() > at ? std::strtoull(name.c_str() + at, nullptr, 10) : 0;
        };
        for (std::size_t i = first; i < all.size(); ++i)
            std::stable_sort(all[i].to.begin(), all[i].to.end(),
                             [&](const auto& a, const auto& b) { return number(a) < number(b); });
        if (all[first].to.size() == 1 && all[first].to[0] == all[first].from) all.resize(first);
    }
    return all;
}

/// Updates the names of experts modules in the copy of config.json in `to`. Returns the number of
/// changed entries. The copy is replaced like a side file: in one step, synced, with the
/// permissions of the original.
inline sf::result<std::size_t> renew_config(const side_files& beside, const std::string& to,
                                            const sf::rewrite_plan& plan, bool unfuse,
                                            sf::durability wait) {
    std::size_t changed = 0;
    if (std::find(beside.taken.begin(), beside.taken.end(), "config.json") == beside.taken.end())
        return changed;
    const std::filesystem::path path = path_of(to) / "config.json",
                                fresh = path_of(to) / "config.json.tmp";
    std::ifstream in{path, std::ios::binary};
    if (!in) return changed;
    const std::string json{std::istreambuf_iterator<char>{in}, {}};
    in.close();
    if (!rewrite_config::has_lists(json)) return changed;
    const std::string renewed =
        rewrite_config::renew_lists(json, renewals_of(plan, unfuse), changed);
    if (changed == 0) return changed;
    std::ofstream out{fresh, std::ios::binary | std::ios::trunc};
    out << renewed;
    out.close();
    if (!out) return sf::failure{.code = sf::errc::io_error, .file = sf::text{text_of(fresh)}};
    std::error_code error, ignored;
    const std::filesystem::file_status original = std::filesystem::status(path, error);
    if (!error) std::filesystem::permissions(fresh, original.permissions(), error);
    auto copied = error ? sf::result<void>{sf::failure{.code = sf::errc::io_error,
                                                       .file = sf::text{text_of(fresh)},
                                                       .detail = sf::text{error.message()}}}
                        : sf::copy_file(text_of(fresh), text_of(path), wait);
    std::filesystem::remove(fresh, ignored);
    if (!copied) return std::move(copied).error();
    return changed;
}

/// Set by Ctrl-C. The run stops at the next piece and can be resumed.
inline volatile std::sig_atomic_t interrupted = 0;
extern "C" inline void interrupt(int) { interrupted = 1; }

using choose_family::direction;

/// The options of the command line.
struct request {
    direction way = direction::fuse;
    std::string program, in, out, family, form, variant;
    /// The engine whose layout OUT gets. Null: the model's layout or a stored one.
    const sf::engine_entry* engine = nullptr;
    sf::rewrite_options options;
    side_policy beside = side_policy::known;
    bool pread = false, overwrite = false, quiet = false, any_expert_count = false,
         keep_unknown = false, dry_run = false, json = false;
    bool splits_anew = false;  ///< a shard size was given, so files are split again
};

/// Progress, Ctrl-C, and the side files, which are copied as soon as the destination is locked.
class progress {
public:
    progress(const request& asked, const side_files& beside, const sf::rewrite_plan& plan,
             std::string to)
        : asked_{asked},
          beside_{beside},
          plan_{plan},
          to_{std::move(to)},
          display_{asked.quiet || asked.json} {}

    bool operator()(const sf::run_progress& at) {
        return copy_beside() && interrupted == 0 && display_(at);
    }
    /// Copies the side files once. Returns whether that succeeded; `copied()` has the failure.
    bool copy_beside() {
        if (std::exchange(began_, true)) return copied_.has_value();
        copied_ = copy_side_files(beside_, to_, asked_.options.wait);
        if (copied_ && asked_.way != direction::repack && asked_.engine == nullptr) {
            const bool unfuse = asked_.way == direction::unfuse;
            const auto renewed = renew_config(beside_, to_, plan_, unfuse, asked_.options.wait);
            if (!renewed) return copied_ = renewed.error(), false;
            if (*renewed != 0 && !asked_.quiet && !asked_.json)
                std::printf(unfuse
                                ? "note       config.json: %zu entries of experts modules now name "
                                  "single experts\n"
                                : "note       config.json: %zu entries of single experts now name "
                                  "their modules\n",
                            *renewed);
        }
        return copied_.has_value();
    }
    [[nodiscard]] const sf::result<void>& copied() const { return copied_; }

private:
    const request& asked_;
    const side_files& beside_;
    const sf::rewrite_plan& plan_;
    std::string to_;
    command_line::progress_display display_;
    bool began_ = false;
    sf::result<void> copied_;
};

/// What will be written (--dry-run), or what was written.
struct account {
    std::string family;
    std::size_t tensors_in = 0, tensors_out = 0, modules = 0, modules_done = 0;
    const side_files* beside = nullptr;
    std::uint64_t bytes = 0, free_bytes = sf::unknown;
    std::uint32_t shards = 0, kept = 0, linked = 0;
    std::uint64_t shared_bytes = 0;
    double seconds = 0;

    [[nodiscard]] std::uint64_t needed_bytes() const { return bytes + beside->size_bytes; }
};

/// Prints the side files that are not copied, one per line, at most `most`.
inline void print_left(const side_files& beside, std::size_t most) {
    for (std::size_t i = 0; i < beside.left.size() && i < most; ++i)
        std::printf("left       %s: %s\n", command_line::printable(beside.left[i].name).c_str(),
                    command_line::printable(beside.left[i].why).c_str());
    if (beside.left.size() > most)
        std::printf("left       and %zu more; --dry-run lists all\n", beside.left.size() - most);
}

inline void print_side_files_json(const side_files& beside) {
    const char* comma = "";
    std::printf("\"side_files\": %zu, \"side_bytes\": %llu, \"side_file_names\": [",
                beside.taken.size(), static_cast<unsigned long long>(beside.size_bytes));
    for (const std::string& name : beside.taken) {
        std::printf("%s%s", comma, command_line::json_string(name).c_str());
        comma = ", ";
    }
    comma = "";
    std::printf("], \"left_files\": [");
    for (const auto& [name, why] : beside.left) {
        std::printf("%s{\"name\": %s, \"why\": %s}", comma, command_line::json_string(name).c_str(),
                    command_line::json_string(why).c_str());
        comma = ", ";
    }
    std::printf("], ");
}

inline void print(const account& all, const request& asked) {
    const auto whole = [](std::uint64_t number) { return static_cast<unsigned long long>(number); };
    if (asked.json) {
        std::printf(
            "{\"written\": %s, \"family\": %s, \"experts_modules\": %zu, "
            "\"experts_modules_done_before\": %zu, \"tensors_in\": %zu, \"tensors\": %zu, "
            "\"size_bytes\": %llu, \"files\": %u, \"files_kept\": %u, \"files_linked\": %u, "
            "\"shared_bytes\": %llu, ",
            asked.dry_run ? "false" : "true", command_line::json_string(all.family).c_str(),
            all.modules, all.modules_done, all.tensors_in, all.tensors_out, whole(all.bytes),
            all.shards, all.kept, all.linked, whole(all.shared_bytes));
        print_side_files_json(*all.beside);
        if (all.free_bytes != sf::unknown)
            std::printf("\"free_bytes\": %llu, ", whole(all.free_bytes));
        std::printf("\"seconds\": %.3f, \"peak_memory_bytes\": %llu}\n", all.seconds,
                    whole(command_line::peak_memory_bytes()));
        return;
    }
    if (asked.quiet) return;
    const std::size_t others = all.beside->taken.size();
    if (asked.dry_run) {
        std::printf("would write %s in %u file%s, and %zu other file%s, %s\n",
                    command_line::size_text(all.bytes).c_str(), all.shards,
                    all.shards == 1 ? "" : "s", others, others == 1 ? "" : "s",
                    command_line::size_text(all.beside->size_bytes).c_str());
        for (const std::string& name : all.beside->taken)
            std::printf("would copy %s\n", command_line::printable(name).c_str());
        print_left(*all.beside, all.beside->left.size());
        if (all.free_bytes != sf::unknown)
            std::printf("free space  %s: %s\n", command_line::size_text(all.free_bytes).c_str(),
                        all.free_bytes < all.needed_bytes() ? "too little" : "enough");
        return;
    }
    std::printf("%s: written, %u file%s", command_line::printable(asked.out).c_str(), all.shards,
                all.shards == 1 ? "" : "s");
    if (all.kept != 0) std::printf(", %u of them already complete", all.kept);
    if (all.linked != 0) std::printf(", %u of them hard links", all.linked);
    if (all.shared_bytes != 0)
        std::printf(", %s shared with the source",
                    command_line::size_text(all.shared_bytes).c_str());
    std::printf(", and %zu other file%s\n", others, others == 1 ? "" : "s");
}

/// Prints the first changed names and the number of changes.
inline void print_names(const sf::rewrite_plan& plan, const sf::tensor_set_ref& set) {
    constexpr std::size_t most = 8;
    std::size_t changed = 0;
    for (std::size_t i = 0; i < plan.tensors().size(); ++i) {
        const auto origin = plan.origin_of(i);
        if (origin.scope != sf::rewrite_plan::passthrough) continue;
        const std::string_view stored = set.spec(origin.number).name, name = plan.tensors()[i].name;
        if (stored != name && changed++ < most)
            std::printf("renames    %s -> %s\n", command_line::printable(stored).c_str(),
                        command_line::printable(name).c_str());
    }
    if (changed > most) std::printf("renames    and %zu more\n", changed - most);
}

/// Converts a checkpoint and prints a summary. Returns the exit status.
template <sf::file_source Source>
int run_with(request asked) {
    const command_line::stopwatch watch;
    if (const auto whole = check_finished(asked.in); !whole)
        return command_line::report(whole.error());
    sf::checkpoint_report notes;
    const auto checkpoint =
        sf::basic_checkpoint<Source>::open(asked.in, {.variant = asked.variant}, notes);
    if (!checkpoint) return command_line::report(checkpoint.error());
    const bool unfuse = asked.way == direction::unfuse;
    auto ask = choose_family::request{.family = asked.family,
                                      .form = asked.form,
                                      .way = asked.way,
                                      .any_expert_count = asked.any_expert_count,
                                      .keep_unknown = asked.keep_unknown};
    auto chosen = choose_family::choose(text_of(directory_of(asked.in)), *checkpoint, ask);
    if (!chosen && asked.engine != nullptr) {  // IN may be in either form
        ask.way = direction::unfuse;
        chosen = choose_family::choose(text_of(directory_of(asked.in)), *checkpoint, ask);
    }
    if (!chosen) return command_line::report(chosen.error());
    const sf::family_description& family = chosen->family;
    const sf::direction way = unfuse ? sf::direction::inverse : sf::direction::forward;

    if (asked.way != direction::repack)
        if (const auto filled = choose_family::check_elements(*checkpoint, family); !filled)
            return command_line::report(filled.error());
    const auto plan =
        asked.way == direction::repack ? sf::repack_plan(*checkpoint, family, chosen->options())
        : asked.engine != nullptr
            ? sf::rewrite_plan::make(*checkpoint, family, *asked.engine,
                                     chosen->options(asked.keep_unknown))
            : sf::rewrite_plan::make(*checkpoint, family, way, chosen->options(asked.keep_unknown));
    if (!plan) return report_plan(plan.error(), *chosen, *checkpoint);
    // if there is nothing to do, the files are copied byte for byte
    bool stays = false;
    if (asked.way != direction::repack && asked.engine == nullptr && !asked.splits_anew) {
        const auto same = sf::changes_nothing(*plan);
        if (!same) return command_line::report(same.error());
        stays = *same && sf::is_in_one_directory(*checkpoint);
    }
    std::vector<std::string> tensor_files;
    for (std::size_t i = 0; i < checkpoint->file_count(); ++i)
        tensor_files.emplace_back(checkpoint->file(i).path());
    const auto beside = choose_side_files(asked.in, tensor_files, asked.beside);
    if (!beside) return command_line::report(beside.error());
    asked.options.other_bytes = beside->size_bytes;
    auto metadata = metadata_of(*checkpoint);
    sf::spelling_to_keep spelling;
    const bool is_remembered =
        !choose_family::remembered(*checkpoint).empty();  // recorded by the run that fused it
    if (asked.way == direction::fuse && asked.engine == nullptr && chosen->own != nullptr &&
        !is_remembered) {
        auto made =
            sf::stored_spelling::of(*checkpoint, chosen->family, *chosen->own, chosen->is_told);
        if (!made) return command_line::report(made.error());
        spelling = std::move(*made);
        if (!spelling.value.empty())
            metadata.push_back({sf::stored_spelling::metadata_key, spelling.value.view()});
    } else if (unfuse || asked.engine != nullptr) {  // a stored form needs no record
        std::erase_if(metadata, [](const sf::metadata_entry& each) {
            return each.key == sf::stored_spelling::metadata_key;
        });
    }
    asked.options.metadata = metadata;
    const auto outline = sf::outline_of(*plan, asked.options);
    if (!outline) return command_line::report(outline.error());

    account all;
    all.family = chosen->is_told || plan->scopes().experts_count() != 0 ? family.name
                                                                        : std::string_view{"none"};
    all.tensors_in = checkpoint->size();
    all.tensors_out = plan->tensors().size();
    all.modules = plan->scopes().experts_count();
    all.modules_done = asked.engine != nullptr ? 0 : already_done(*plan);
    all.beside = &*beside;
    all.bytes = plan->total_bytes();
    all.shards =
        stays ? static_cast<std::uint32_t>(checkpoint->file_count()) : outline->shard_count();
    if (!asked.quiet && !asked.json) {
        std::printf("%s: family %s, %zu experts modules", command_line::printable(asked.in).c_str(),
                    all.family.c_str(), all.modules);
        if (asked.way != direction::repack)
            std::printf(" (%zu already have the wanted form)", all.modules_done);
        std::printf(", %zu tensors -> %zu tensors, %s\n", all.tensors_in, all.tensors_out,
                    command_line::size_text(all.bytes).c_str());
        if (!asked.dry_run) print_left(*beside, 8);
        const auto say = [](const std::string& note) {
            std::printf("note       %s\n", command_line::printable(note).c_str());
        };
        for (const std::string& note : chosen->notes) say(note);
        for (const sf::checkpoint_note& note : notes.notes())
            if (note.what == sf::checkpoint_note::kind::unlisted_tensors)
                say(std::string{note.message().view()} +
                    ": passed through, as loaders accept them");
        if (spelling.lost_count != 0)
            say("unfusing will not restore " + std::to_string(spelling.lost_count) +
                " names, such as \"" + std::string{spelling.first_lost.view()} +
                "\", which becomes \"" + std::string{spelling.first_lost_becomes.view()} + "\"");
        if (asked.way == direction::fuse && asked.engine == nullptr && all.modules_done != 0 &&
            all.modules_done != all.modules)
            say(std::to_string(all.modules_done) + " of " + std::to_string(all.modules) +
                " experts modules were fused already; unfusing will take them apart, too");
        if (asked.way != direction::repack && asked.engine == nullptr &&
            all.modules == all.modules_done)
            say(std::string{"there is nothing to "} + (unfuse ? "unfuse" : "fuse") +
                (stays ? ": all files stay the same, byte for byte"
                       : ": all tensors stay the same"));
        std::fflush(stdout);
    }
    if (asked.dry_run) {
        if (!asked.quiet && !asked.json) print_names(*plan, *checkpoint);
        if (const auto free = sf::free_space_bytes(text_of(directory_of(asked.out))))
            all.free_bytes = *free;
        all.seconds = watch.seconds();
        print(all, asked);
        return all.free_bytes < all.needed_bytes() ? command_line::failed : command_line::success;
    }

    // A checkpoint to be replaced stays until the new one, which is written beside it, is complete.
    auto destination = sf::checkpoint_destination::open(
        asked.out, *checkpoint,
        {.what = asked.overwrite ? sf::existing::replace : sf::existing::refuse,
         .resume = asked.options.resume,
         .wait = asked.options.wait});
    if (!destination) return command_line::report(destination.error());
    asked.options.resume = destination->resumes();
    asked.options.keep_state = destination->is_staged();
    std::signal(SIGINT, interrupt);
    const std::string to{destination->directory()};
    progress at{asked, *beside, *plan, to};
    const auto written = stays ? sf::copy_checkpoint(*checkpoint, to, asked.options, at)
                               : sf::rewrite(*plan, to, asked.options, at);
    if (!at.copied()) return command_line::report(at.copied().error());
    if (!written) {
        sf::failure why = written.error();
        if (why.code == sf::errc::canceled) {
            command_line::report(why);
            const std::string again = asked.program + ' ' + asked.in + ' ' + asked.out;
            std::fprintf(stderr, "to resume: %s --resume, with the same options\n",
                         command_line::printable(again).c_str());
            return command_line::interrupted;
        }
        if (why.code == sf::errc::destination_not_empty && !asked.options.resume)
            why.detail.append(
                "; --overwrite replaces its tensor files, --resume continues an interrupted run");
        if (why.code == sf::errc::disk_full && destination->is_staged())
            why.detail.append(
                "; the old checkpoint stays until the new one is complete, so there must be room "
                "for both");
        return command_line::report(why);
    }
    if (!at.copy_beside()) return command_line::report(at.copied().error());
    if (auto committed = destination->commit(); !committed)
        return command_line::report(committed.error());
    all.kept = written->kept_shard_count;
    all.linked = written->linked_shard_count;
    all.shared_bytes = written->shared_bytes;
    all.seconds = watch.seconds();
    print(all, asked);
    if (!asked.quiet && !asked.json) command_line::summarise(all.bytes, watch);
    return command_line::success;
}

/// Names of the engines, as a line of help.
inline std::string engine_names() {
    std::string out = "                       ";
    for (const sf::engine_entry& each : sf::shipped_engines::all)
        out += " " + std::string{each.name};
    return out + "\n";
}

/// The whole program for one direction. `usage` is the help text of this direction.
inline int run(int argc, char** argv, const std::string& usage, direction way) {
    const std::string help =
        usage +
        "  IN                    a directory, a model.safetensors.index.json or one .safetensors\n"
        "                        file\n"
        "  --family NAME         family or model type of IN; default: config.json's model_type,\n"
        "                        else by names. --layout NAME is the older spelling\n"
        "  --to WHAT             form of OUT: model (as in transformers); hub or per-expert (as\n"
        "                        stored, in that form); stored (the form before fusing, else\n"
        "                        the hub's); or an engine's:\n" +
        engine_names() +
        "                        default: " + (way == direction::unfuse ? "stored" : "model") +
        "\n" +
        "  --variant V           read variant V of a directory, such as fp16\n"
        "  --max-shard-size S    such as 300MB or 5GB; default 5GB. If there is nothing to do,\n"
        "                        the files are copied byte for byte, unless a size is given\n"
        "  --one-tensor-per-file each tensor in a file of its own: loaders that read files whole\n"
        "                        hold one at a time\n"
        "  --source mmap|pread   map the files or read them by position; default mmap\n"
        "  --any-expert-count    accept any number of experts, whatever config.json says (pruned\n"
        "                        checkpoints)\n"
        "  --side-files=WHICH    which files beside the tensors are copied. known (default):\n"
        "                        configurations, tokenizer files, templates, code, licence and\n"
        "                        readme, or only config.json if IN is one .safetensors file; all:\n"
        "                        every file; none. --dry-run lists copied and other files\n"
        "  --keep-unknown        pass through tensors that look like experts and fit no known\n"
        "                        form; otherwise they are an error\n"
        "  --dry-run             print what would be written, and whether there is room; write\n"
        "                        nothing\n"
        "  --resume              continue an interrupted or killed run; complete files are kept\n"
        "  --overwrite           replace the checkpoint in OUT when the new one is complete;\n"
        "                        there must be room for both. All tensor files in OUT are\n"
        "                        removed, other files stay. --resume continues an interrupted\n"
        "                        replacement\n"
        "  --reflink             share disk blocks with IN if the file system can\n"
        "  --link                as --reflink, and make unchanged files hard links to those of IN\n"
        "  --no-sync             do not wait for the disk; a power cut may then destroy OUT\n"
        "  --json                print a summary as JSON at the end\n"
        "  --quiet               print errors only\n";
    command_line::survive_file_size_limit();
    command_line::arguments arguments{argc, argv, help.c_str()};
    request asked;
    asked.way = way;
    asked.program = argv[0];
    asked.family = arguments.family();
    const std::string to = arguments.value("--to", way == direction::unfuse ? "stored" : "model");
    if (way == direction::repack) {
        if (to != "model")
            arguments.complain("repack_checkpoint changes no layout and takes no --to");
    } else if (to == "hub" || to == "per-expert" || to == "stored") {
        asked.way = direction::unfuse;
        if (to != "stored") asked.form = to;
    } else {
        asked.way = direction::fuse;
        if (to != "model") asked.engine = sf::find_engine(to);
        if (to != "model" && asked.engine == nullptr)
            arguments.complain("--to must be model, hub, per-expert, stored or an engine, not \"" +
                               to + "\"");
    }
    asked.variant = arguments.value("--variant", "");
    const std::uint64_t given_size = arguments.size("--max-shard-size", sf::unknown);
    asked.splits_anew = given_size != sf::unknown;
    if (asked.splits_anew) asked.options.max_shard_bytes = given_size;
    if (arguments.flag("--one-tensor-per-file")) {
        asked.options.max_shard_bytes = sf::one_tensor_per_file;
        asked.splits_anew = true;
    }
    const std::string source = arguments.value("--source", "mmap");
    if (source != "mmap" && source != "pread")
        arguments.complain("--source must be mmap or pread, not \"" + source + "\"");
    const std::string beside = arguments.value("--side-files", "known");
    if (beside != "known" && beside != "all" && beside != "none")
        arguments.complain("--side-files must be known, all or none, not \"" + beside + "\"");
    asked.beside = beside == "all"    ? side_policy::all
                   : beside == "none" ? side_policy::none
                                      : side_policy::known;
    asked.any_expert_count = arguments.flag("--any-expert-count");
    asked.keep_unknown = arguments.flag("--keep-unknown");
    asked.dry_run = arguments.flag("--dry-run");
    asked.options.resume = arguments.flag("--resume");
    asked.overwrite = arguments.flag("--overwrite");
    if (asked.overwrite && asked.options.resume)
        arguments.complain("--resume keeps what --overwrite removes");
    if (arguments.flag("--reflink")) asked.options.share = sf::sharing::blocks;
    if (arguments.flag("--link")) asked.options.share = sf::sharing::files;
    if (arguments.flag("--no-sync")) asked.options.wait = sf::durability::renamed;
    asked.json = arguments.flag("--json");
    asked.quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();
    asked.in = arguments[0];
    asked.out = arguments[1];
    return source == "pread" ? run_with<sf::positional_file>(asked)
                             : run_with<sf::mapped_file>(asked);
}

}  // namespace convert_checkpoint

#endif
