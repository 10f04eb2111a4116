// The main job: from a checkpoint to a fused, unfused or repacked one, with the files beside the tensors. fuse_checkpoint,
// unfuse_checkpoint and repack_checkpoint are this, in one direction each; verify_fused and inspect choose the family in the same way.
#ifndef SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP
#define SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP

#include <csignal>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <safefuse/safefuse.hpp>

#include "command_line.hpp"
#include "side_files.hpp"

namespace convert_checkpoint {

namespace sf = safefuse;

/// The family of a checkpoint, and what config.json says that its tensors must agree with.
struct chosen_family {
    const sf::family_entry* family = nullptr;
    std::string model_type;  ///< config.json's
    std::vector<sf::known_extent> extents;

    /// What plans are to be held against.
    [[nodiscard]] sf::plan_options options() const { return {.known_extents = {extents.data(), extents.size()}}; }
};

/// Chooses the family that is asked for, else that of config.json's model_type, else what the names tell.
inline sf::result<chosen_family> choose_family_alone(const std::string& path, sf::tensor_set_ref tensors,
                                                     const std::string& wanted, bool unfuse, bool any_expert_count) {
    chosen_family out;
    const auto config = sf::read_model_config(text_of(directory_of(path)));
    if (!config && config.error().code != sf::errc::file_not_found) return config.error();
    if (config) {
        out.model_type = config->model_type.view();
        if (config->expert_count != sf::unknown && !any_expert_count) out.extents.push_back({"E", config->expert_count});
        for (const sf::text* type : {&config->model_type, &config->text_model_type})
            if (out.family == nullptr) out.family = sf::find_family(*type);
    }
    if (!wanted.empty()) {
        out.family = sf::find_family(wanted);
        if (out.family != nullptr) return out;
        sf::text detail{wanted};
        detail.append(": ");
        detail.append(sf::family_names());
        return sf::failure{.code = sf::errc::unknown_family, .detail = detail};
    }
    if (out.family != nullptr) return out;
    auto family = sf::detect_family(tensors, unfuse);
    if (family) {
        out.family = *family;
        return out;
    }
    if (family.error().code == sf::errc::unknown_family)
        if (const auto other = sf::detect_family(tensors, !unfuse); other || other.error().code == sf::errc::ambiguous_family)
            return sf::failure{.code = sf::errc::no_experts, .detail = unfuse ? "they are not fused" : "they are fused already"};
    if (config) {
        sf::text detail{"config.json says model_type "};
        detail.append(config->model_type);
        detail.append("; ");
        detail.append(family.error().detail);
        family.error().detail = detail;
    }
    return std::move(family).error();
}

/// The same, and the extents that the family takes from config.json.
inline sf::result<chosen_family> choose_family(const std::string& path, sf::tensor_set_ref tensors, const std::string& wanted,
                                               bool unfuse, bool any_expert_count = false) {
    auto chosen = choose_family_alone(path, tensors, wanted, unfuse, any_expert_count);
    if (!chosen) return chosen;
    for (const sf::config_extent& each : chosen->family->fuse.config_extents) {
        const auto number = sf::read_config_number(text_of(directory_of(path)), each.key);
        if (!number && number.error().code != sf::errc::file_not_found) return number.error();
        if (number && *number != sf::unknown) chosen->extents.push_back({each.name, *number});
    }
    return chosen;
}

/// One sentence on stderr, and what helps, for a plan that was refused; returns the exit status.
inline int report_plan(sf::failure failure) {
    if (failure.code == sf::errc::unexpected_extent) {
        failure.detail.append(", as config.json has it; --any-expert-count takes what is there");
    }
    return command_line::report(failure);
}

/// Calls f(entry) for what lies in a directory, until f returns an error.
template <class F>
sf::result<void> for_each_entry(const std::filesystem::path& directory, F&& f) {
    std::error_code error;
    std::filesystem::directory_iterator at{directory, error};
    for (; !error && at != std::filesystem::directory_iterator{}; at.increment(error))
        if (error = f(*at); error)
            return sf::failure{
                .code = sf::errc::io_error, .file = sf::text{text_of(at->path())}, .detail = sf::text{error.message()}};
    if (error)
        return sf::failure{.code = sf::errc::io_error, .file = sf::text{text_of(directory)}, .detail = sf::text{error.message()}};
    return {};
}

/// The metadata of the checkpoint's files where all agree, else {"format": "pt"}; the views point into the checkpoint.
template <class Checkpoint>
std::vector<sf::metadata_entry> metadata_of(const Checkpoint& checkpoint) {
    std::vector<sf::metadata_entry> common;
    const auto& first = checkpoint.file(0).header();
    for (std::size_t i = 0; i < first.metadata_size(); ++i) {
        const sf::metadata_entry entry = first.metadata(i);
        bool everywhere = true;
        for (std::size_t f = 1; f < checkpoint.file_count(); ++f) {
            std::string_view value;
            everywhere = everywhere && checkpoint.file(f).header().find_metadata(entry.key, value) && value == entry.value;
        }
        if (everywhere) common.push_back(entry);
    }
    bool has_format = false;
    for (const sf::metadata_entry& entry : common) has_format = has_format || entry.key == "format";
    if (!has_format) common.push_back(sf::pytorch_metadata[0]);
    return common;
}

/// How many experts modules are in the form already that they are to be brought into.
inline std::size_t already_done(const sf::experts_scopes& scopes) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < scopes.experts_count(); ++i) count += scopes[i].form == sf::scope_state::done ? 1u : 0u;
    return count;
}

/// Set by Ctrl-C; a run stops at the next piece and can be gone on with.
inline volatile std::sig_atomic_t interrupted = 0;
extern "C" inline void interrupt(int) { interrupted = 1; }

enum class direction { fuse, unfuse, repack };

/// What the programs are asked for.
struct request {
    direction way = direction::fuse;
    std::string program, in, out, layout;
    sf::rewrite_options options;
    side_policy beside = side_policy::known;
    bool pread = false, overwrite = false, quiet = false, any_expert_count = false, dry_run = false, json = false;
};

/// Progress, Ctrl-C, and the side files, which are copied as soon as the destination is ours.
class progress {
public:
    progress(const request& asked, const side_files& beside, std::string to)
        : asked_{asked}, beside_{beside}, to_{std::move(to)}, display_{asked.quiet || asked.json} {}

    bool operator()(const sf::rewrite_progress& at) { return copy_beside() && interrupted == 0 && display_(at); }
    /// Whether they are there; `copied()` says why not.
    bool copy_beside() {
        if (!std::exchange(began_, true)) copied_ = copy_side_files(beside_, to_, asked_.options.wait);
        return copied_.has_value();
    }
    [[nodiscard]] const sf::result<void>& copied() const { return copied_; }

private:
    const request& asked_;
    const side_files& beside_;
    std::string to_;
    command_line::progress_display display_;
    bool began_ = false;
    sf::result<void> copied_;
};

/// What will be written, for --dry-run, or what was.
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

/// The files beside the tensors that stay behind, one in each line, and at most `most` of them.
inline void print_left(const side_files& beside, std::size_t most) {
    for (std::size_t i = 0; i < beside.left.size() && i < most; ++i)
        std::printf("left       %s: %s\n", command_line::printable(beside.left[i].name).c_str(),
                    command_line::printable(beside.left[i].why).c_str());
    if (beside.left.size() > most) std::printf("left       and %zu more; --dry-run names all\n", beside.left.size() - most);
}

inline void print_side_files_json(const side_files& beside) {
    const char* comma = "";
    std::printf("\"side_files\": %zu, \"side_bytes\": %llu, \"side_file_names\": [", beside.taken.size(),
                static_cast<unsigned long long>(beside.size_bytes));
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
            "{\"written\": %s, \"family\": %s, \"experts_modules\": %zu, \"experts_modules_done_before\": %zu, \"tensors_in\": %zu, \"tensors\": %zu, "
            "\"size_bytes\": %llu, \"files\": %u, \"files_kept\": %u, \"files_linked\": %u, \"shared_bytes\": %llu, ",
            asked.dry_run ? "false" : "true", command_line::json_string(all.family).c_str(), all.modules, all.modules_done,
            all.tensors_in, all.tensors_out, whole(all.bytes), all.shards, all.kept, all.linked, whole(all.shared_bytes));
        print_side_files_json(*all.beside);
        if (all.free_bytes != sf::unknown) std::printf("\"free_bytes\": %llu, ", whole(all.free_bytes));
        std::printf("\"seconds\": %.3f, \"peak_memory_bytes\": %llu}\n", all.seconds, whole(command_line::peak_memory_bytes()));
        return;
    }
    if (asked.quiet) return;
    const std::size_t others = all.beside->taken.size();
    if (asked.dry_run) {
        std::printf("would write %s in %u file%s, and %zu other file%s, %s\n", command_line::size_text(all.bytes).c_str(),
                    all.shards, all.shards == 1 ? "" : "s", others, others == 1 ? "" : "s",
                    command_line::size_text(all.beside->size_bytes).c_str());
        for (const std::string& name : all.beside->taken) std::printf("would copy %s\n", command_line::printable(name).c_str());
        print_left(*all.beside, all.beside->left.size());
        if (all.free_bytes != sf::unknown)
            std::printf("free space  %s: %s\n", command_line::size_text(all.free_bytes).c_str(),
                        all.free_bytes < all.needed_bytes() ? "too little" : "enough");
        return;
    }
    std::printf("%s: written, %u file%s", command_line::printable(asked.out).c_str(), all.shards, all.shards == 1 ? "" : "s");
    if (all.kept != 0) std::printf(", %u of them there already", all.kept);
    if (all.linked != 0) std::printf(", %u of them links", all.linked);
    if (all.shared_bytes != 0) std::printf(", %s shared with the source", command_line::size_text(all.shared_bytes).c_str());
    std::printf(", and %zu other file%s\n", others, others == 1 ? "" : "s");
}

/// Converts a checkpoint and says what it did; returns the exit status.
template <sf::file_source Source>
int run_with(request asked) {
    const command_line::stopwatch watch;
    const auto checkpoint = sf::basic_checkpoint<Source>::open(asked.in);
    if (!checkpoint) return command_line::report(checkpoint.error());
    const bool unfuse = asked.way == direction::unfuse;
    const auto chosen = choose_family(asked.in, *checkpoint, asked.layout, unfuse, asked.any_expert_count);
    if (!chosen) return command_line::report(chosen.error());
    const sf::family_description& family = unfuse ? chosen->family->unfuse : chosen->family->fuse;

    const auto plan = asked.way == direction::repack ? sf::repack_plan(*checkpoint, family, chosen->options())
                                                     : sf::rewrite_plan::make(*checkpoint, family, chosen->options());
    if (!plan) return report_plan(plan.error());
    std::vector<std::string> tensor_files;
    for (std::size_t i = 0; i < checkpoint->file_count(); ++i) tensor_files.emplace_back(checkpoint->file(i).path());
    const auto beside = choose_side_files(asked.in, tensor_files, asked.beside);
    if (!beside) return command_line::report(beside.error());
    asked.options.other_bytes = beside->size_bytes;
    const auto metadata = metadata_of(*checkpoint);
    asked.options.metadata = metadata;
    const auto outline = sf::outline_of(*plan, asked.options);
    if (!outline) return command_line::report(outline.error());

    account all;
    all.family = family.name;
    all.tensors_in = checkpoint->size();
    all.tensors_out = plan->tensors().size();
    all.modules = plan->scopes().experts_count();
    all.modules_done = already_done(plan->scopes());
    all.beside = &*beside;
    all.bytes = plan->total_bytes();
    all.shards = outline->shard_count();
    if (!asked.quiet && !asked.json) {
        std::printf("%s: family %s, %zu experts modules", command_line::printable(asked.in).c_str(), all.family.c_str(),
                    all.modules);
        if (asked.way != direction::repack) std::printf(" (%zu are as asked already)", all.modules_done);
        std::printf(", %zu tensors -> %zu tensors, %s\n", all.tensors_in, all.tensors_out,
                    command_line::size_text(all.bytes).c_str());
        if (!asked.dry_run) print_left(*beside, 8);
        std::fflush(stdout);
    }
    if (asked.dry_run) {
        if (const auto free = sf::free_space_bytes(text_of(directory_of(asked.out)))) all.free_bytes = *free;
        all.seconds = watch.seconds();
        print(all, asked);
        return all.free_bytes < all.needed_bytes() ? command_line::failed : command_line::success;
    }

    // What is to be replaced stays until the new checkpoint is complete, which is written beside it.
    auto destination = sf::checkpoint_destination::open(asked.out, *checkpoint,
                                                        {.what = asked.overwrite ? sf::existing::replace : sf::existing::refuse,
                                                         .resume = asked.options.resume,
                                                         .wait = asked.options.wait});
    if (!destination) return command_line::report(destination.error());
    asked.options.resume = destination->resumes();
    asked.options.keep_state = destination->is_staged();
    std::signal(SIGINT, interrupt);
    const std::string to{destination->directory()};
    progress at{asked, *beside, to};
    const auto written = sf::rewrite(*plan, to, asked.options, at);
    if (!at.copied()) return command_line::report(at.copied().error());
    if (!written) {
        sf::failure why = written.error();
        if (why.code == sf::errc::canceled) {
            command_line::report(why);
            const std::string again = asked.program + ' ' + asked.in + ' ' + asked.out;
            std::fprintf(stderr, "%s --resume, with the same options, goes on with it\n", command_line::printable(again).c_str());
            return command_line::interrupted;
        }
        if (why.code == sf::errc::destination_not_empty && !asked.options.resume)
            why.detail.append("; --overwrite replaces the tensor files in it, --resume goes on with a run that was stopped");
        if (why.code == sf::errc::disk_full && destination->is_staged())
            why.detail.append("; the old checkpoint stays until the new one is complete, so there must be room for both");
        return command_line::report(why);
    }
    if (!at.copy_beside()) return command_line::report(at.copied().error());
    if (auto committed = destination->commit(); !committed) return command_line::report(committed.error());
    all.kept = written->kept_shard_count;
    all.linked = written->linked_shard_count;
    all.shared_bytes = written->shared_bytes;
    all.seconds = watch.seconds();
    print(all, asked);
    if (!asked.quiet && !asked.json) command_line::summarise(all.bytes, watch);
    return command_line::success;
}

/// The whole program for one direction; `usage` is what is special about it.
inline int run(int argc, char** argv, const std::string& usage, direction way) {
    const std::string help =
        usage +
        "  IN                    a directory, a model.safetensors.index.json or one .safetensors file\n"
        "  --layout NAME         the family or model type; default: config.json's model_type, else from the names\n"
        "  --max-shard-size S    such as 300MB or 5GB; default 5GB\n"
        "  --one-tensor-per-file each tensor in a file of its own: loaders that read files whole hold one at a time\n"
        "  --source mmap|pread   map the files or read them by position; default mmap\n"
        "  --any-expert-count    do not ask for as many experts as config.json says (pruned checkpoints)\n"
        "  --side-files=WHICH    what is copied of the files beside the tensors. known (default): configurations, tokenizer\n"
        "                        files, templates, code, licence and readme, and config.json alone if IN is one .safetensors\n"
        "                        file; all: every file; none. --dry-run names what is copied and what is left\n"
        "  --dry-run             say what would be written, and whether there is room; write nothing\n"
        "  --resume              go on with a run that was stopped or killed; files that are complete are kept\n"
        "  --overwrite           replace the checkpoint in OUT when the new one is complete; there must be room for both.\n"
        "                        All tensor files in OUT go, other files stay. --resume goes on with it\n"
        "  --reflink             share blocks with IN where the file system can\n"
        "  --link                as --reflink, and make files that stay the same second names of IN's\n"
        "  --no-sync             do not wait for the disk; a power cut may then cost OUT\n"
        "  --json                say at the end, for programs, what was done\n"
        "  --quiet               say nothing but errors\n";
    command_line::survive_file_size_limit();
    command_line::arguments arguments{argc, argv, help.c_str()};
    request asked;
    asked.way = way;
    asked.program = argv[0];
    asked.layout = arguments.value("--layout", "");
    asked.options.max_shard_bytes = arguments.size("--max-shard-size", asked.options.max_shard_bytes);
    if (arguments.flag("--one-tensor-per-file")) asked.options.max_shard_bytes = sf::one_tensor_per_file;
    const std::string source = arguments.value("--source", "mmap");
    if (source != "mmap" && source != "pread") arguments.complain("--source is mmap or pread, not \"" + source + "\"");
    const std::string beside = arguments.value("--side-files", "known");
    if (beside != "known" && beside != "all" && beside != "none")
        arguments.complain("--side-files is known, all or none, not \"" + beside + "\"");
    asked.beside = beside == "all" ? side_policy::all : beside == "none" ? side_policy::none : side_policy::known;
    asked.any_expert_count = arguments.flag("--any-expert-count");
    asked.dry_run = arguments.flag("--dry-run");
    asked.options.resume = arguments.flag("--resume");
    asked.overwrite = arguments.flag("--overwrite");
    if (asked.overwrite && asked.options.resume) arguments.complain("--resume keeps what --overwrite removes");
    if (arguments.flag("--reflink")) asked.options.share = sf::sharing::blocks;
    if (arguments.flag("--link")) asked.options.share = sf::sharing::files;
    if (arguments.flag("--no-sync")) asked.options.wait = sf::durability::renamed;
    asked.json = arguments.flag("--json");
    asked.quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();
    asked.in = arguments[0];
    asked.out = arguments[1];
    return source == "pread" ? run_with<sf::positional_file>(asked) : run_with<sf::mapped_file>(asked);
}

}  // namespace convert_checkpoint

#endif
