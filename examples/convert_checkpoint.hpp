// The main job: from a checkpoint to a fused (or unfused) one, with the files beside the tensors. fuse_checkpoint and
// unfuse_checkpoint are this, in one direction each; verify_fused chooses the family in the same way.
#ifndef SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP
#define SAFEFUSE_EXAMPLES_CONVERT_CHECKPOINT_HPP

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <safefuse/safefuse.hpp>

#include "command_line.hpp"

namespace convert_checkpoint {

namespace sf = safefuse;

/// The directory that a checkpoint's path lies in, or is.
inline std::filesystem::path directory_of(const std::string& path) {
    const std::filesystem::path given{path};
    std::error_code ignored;
    if (std::filesystem::is_directory(given, ignored)) return given;
    return given.has_parent_path() ? given.parent_path() : std::filesystem::path{"."};
}

/// The family of a checkpoint: the one that is asked for, else that of config.json's model_type, else what the names tell.
inline sf::result<const sf::known_family*> choose_family(const std::string& path, sf::tensor_set_ref tensors, const std::string& wanted,
                                                         bool unfuse) {
    if (!wanted.empty()) {
        if (const sf::known_family* family = sf::find_family(wanted)) return family;
        sf::text detail{wanted};
        detail.append(": ");
        detail.append(sf::known_family_names());
        return sf::failure{.code = sf::errc::unknown_family, .detail = detail};
    }
    const auto config = sf::read_model_config(directory_of(path).string());
    if (config) {
        for (const sf::text* type : {&config->model_type, &config->text_model_type})
            if (const sf::known_family* family = sf::find_family(*type)) return family;
    } else if (config.error().code != sf::errc::file_not_found) {
        return config.error();
    }
    auto family = sf::detect_family(tensors, unfuse);
    if (!family && family.error().code == sf::errc::unknown_family)
        if (const auto other = sf::detect_family(tensors, !unfuse); other || other.error().code == sf::errc::ambiguous_family)
            return sf::failure{.code = sf::errc::no_experts, .detail = unfuse ? "they are not fused" : "they are fused already"};
    if (!family && config) {
        sf::text detail{"config.json says model_type "};
        detail.append(config->model_type);
        detail.append("; ");
        detail.append(family.error().detail);
        family.error().detail = detail;
    }
    return family;
}

/// Calls f(entry) for what lies in a directory, until f returns an error.
template <class F>
sf::result<void> for_each_entry(const std::filesystem::path& directory, F&& f) {
    std::error_code error;
    std::filesystem::directory_iterator at{directory, error};
    for (; !error && at != std::filesystem::directory_iterator{}; at.increment(error))
        if (error = f(*at); error) return sf::failure{.code = sf::errc::io_error, .file = sf::text{at->path().string()}, .detail = sf::text{error.message()}};
    if (error) return sf::failure{.code = sf::errc::io_error, .file = sf::text{directory.string()}, .detail = sf::text{error.message()}};
    return {};
}

/// Copies what lies beside the tensors: config.json, the tokenizer, and so on. Returns how many files, or the failure.
inline sf::result<int> copy_side_files(const std::string& path, const std::string& destination) {
    int copied = 0;
    auto done = for_each_entry(directory_of(path), [&](const std::filesystem::directory_entry& entry) {
        std::error_code error;
        const std::string name = entry.path().filename().string();
        if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") || !entry.is_regular_file(error)) return error;
        if (std::filesystem::copy_file(entry.path(), std::filesystem::path{destination} / name, std::filesystem::copy_options::overwrite_existing, error))
            ++copied;
        return error;
    });
    if (!done) return std::move(done).error();
    return copied;
}

/// Makes sure that a checkpoint may be written to `destination`: it is absent or empty, or its old tensor files are to go.
inline sf::result<void> prepare_destination(const std::string& source, const std::string& destination, bool overwrite) {
    const auto refuse = [&](sf::errc code, const char* why) { return sf::failure{.code = code, .file = sf::text{destination}, .detail = sf::text{why}}; };
    std::error_code error;
    if (std::filesystem::weakly_canonical(directory_of(source), error) == std::filesystem::weakly_canonical(destination, error))
        return refuse(sf::errc::destination_not_empty, "it is the checkpoint to read");
    if (!std::filesystem::exists(destination, error)) return {};
    if (!std::filesystem::is_directory(destination, error)) return refuse(sf::errc::not_a_directory, "");
    if (std::filesystem::is_empty(destination, error)) return {};
    if (!overwrite) return refuse(sf::errc::destination_not_empty, "--overwrite replaces the tensor files in it");
    // the old index goes first, so that no reader takes old and new files for one checkpoint; then what a killed run has left
    for (const bool index : {true, false}) {
        auto removed = for_each_entry(destination, [&](const std::filesystem::directory_entry& entry) {
            const std::string name = entry.path().filename().string();
            const bool left_over = name.starts_with('.') && name.ends_with(".tmp") && name.find(".safetensors") != std::string::npos;
            std::error_code failed;
            if (index ? name.ends_with(".safetensors.index.json") : name.ends_with(".safetensors") || left_over)
                std::filesystem::remove(entry.path(), failed);
            return failed;
        });
        if (!removed) return removed;
    }
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

/// How many of the scopes are in the form that they are to be brought into.
inline std::size_t already_done(const sf::experts_scopes& scopes) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < scopes.size(); ++i) count += scopes[i].form == sf::experts_form::to ? 1u : 0u;
    return count;
}

/// What the programs are asked for.
struct request {
    std::string in, out, layout;
    std::uint64_t max_shard_bytes = sf::default_shard_bytes;
    bool pread = false, overwrite = false, quiet = false, unfuse = false;
};

/// Converts a checkpoint and says what it did; returns the exit status.
template <sf::file_source Source>
int run_with(const request& asked) {
    const command_line::stopwatch watch;
    const auto checkpoint = sf::basic_checkpoint<Source>::open(asked.in);
    if (!checkpoint) return command_line::report(checkpoint.error());
    const auto known = choose_family(asked.in, *checkpoint, asked.layout, asked.unfuse);
    if (!known) return command_line::report(known.error());
    const sf::family_description& family = asked.unfuse ? (*known)->unfuse : (*known)->fuse;

    const auto plan = sf::rewrite_plan::make(*checkpoint, family);
    if (!plan) return command_line::report(plan.error());
    if (auto ready = prepare_destination(asked.in, asked.out, asked.overwrite); !ready) return command_line::report(ready.error());

    if (!asked.quiet)
        std::printf("%s: family %s, %zu experts modules (%zu are as asked already), %zu tensors -> %zu tensors, %s\n", asked.in.c_str(),
                    std::string{family.name}.c_str(), plan->scopes().size(), already_done(plan->scopes()), checkpoint->size(),
                    plan->tensors().size(), command_line::size_text(plan->total_bytes()).c_str());
    std::fflush(stdout);
    const auto metadata = metadata_of(*checkpoint);
    {
        command_line::progress_display progress{asked.quiet};
        const sf::rewrite_options options{.max_shard_bytes = asked.max_shard_bytes, .metadata = metadata};
        if (auto done = sf::rewrite(*plan, asked.out, options, progress); !done) return command_line::report(done.error());
    }
    const auto copied = copy_side_files(asked.in, asked.out);
    if (!copied) return command_line::report(copied.error());
    if (!asked.quiet) {
        std::printf("%s: written, with %d other file%s\n", asked.out.c_str(), *copied, *copied == 1 ? "" : "s");
        command_line::summarise(plan->total_bytes(), watch);
    }
    return command_line::success;
}

/// The whole program for one direction; `usage` is what is special about it.
inline int run(int argc, char** argv, const std::string& usage, bool unfuse) {
    const std::string help = usage +
                             "  IN                    a directory, a model.safetensors.index.json or one .safetensors file\n"
                             "  --layout NAME         the family or model type; default: config.json's model_type, else from the names\n"
                             "  --max-shard-size S    such as 300MB or 5GB; default 5GB\n"
                             "  --source mmap|pread   map the files or read them by position; default mmap\n"
                             "  --overwrite           replace the tensor files in OUT\n"
                             "  --quiet               say nothing but errors\n";
    command_line::arguments arguments{argc, argv, help.c_str()};
    request asked;
    asked.unfuse = unfuse;
    asked.layout = arguments.value("--layout", "");
    asked.max_shard_bytes = arguments.size("--max-shard-size", asked.max_shard_bytes);
    const std::string source = arguments.value("--source", "mmap");
    if (source != "mmap" && source != "pread") arguments.complain("--source is mmap or pread, not \"" + source + "\"");
    asked.overwrite = arguments.flag("--overwrite");
    asked.quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();
    asked.in = arguments[0];
    asked.out = arguments[1];
    return source == "pread" ? run_with<sf::positional_file>(asked) : run_with<sf::mapped_file>(asked);
}

}  // namespace convert_checkpoint

#endif
