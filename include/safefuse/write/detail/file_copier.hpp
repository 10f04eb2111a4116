// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: copies the files of a checkpoint unchanged. It uses the lock and the state file of a
// checkpoint_writer, so a killed run can be resumed.
#ifndef SAFEFUSE_WRITE_DETAIL_FILE_COPIER_HPP
#define SAFEFUSE_WRITE_DETAIL_FILE_COPIER_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/detail/directory_claim.hpp>
#include <safefuse/write/detail/fingerprint.hpp>
#include <safefuse/write/detail/source_files.hpp>
#include <safefuse/write/fingerprint.hpp>
#include <safefuse/write/rewrite_options.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// A tensor file that is copied.
struct file_to_copy {
    std::string_view path;
    std::uint64_t size_bytes = 0;
};

/// Copies tensor files and their index to a directory.
class file_copier {
public:
    /// `files[i]` is source i of the set. `index` is empty if the checkpoint has none.
    file_copier(tensor_set_ref set, span<const file_to_copy> files, std::string_view index,
                std::string_view directory, const rewrite_options& options,
                progress_ref progress) noexcept
        : set_{set},
          files_{files},
          index_{index},
          directory_{directory},
          options_{options},
          progress_{progress} {}

    result<rewrite_summary> run() noexcept {
        if (auto apart = check_apart(set_, directory_.view()); !apart)
            return std::move(apart).error();
        auto states = states_of_sources(set_);
        if (!states) return std::move(states).error();
        if (auto taken = take_directory(states->view()); !taken) return std::move(taken).error();
        auto sources = source_files::of(set_);
        if (!sources) return std::move(sources).error();
        rewrite_summary summary{.shard_count = static_cast<std::uint32_t>(files_.size())};
        // The index is written first. It names all files, so a part of them does not load as a
        // checkpoint.
        if (!index_.empty())
            if (auto copied = copy_file(index_, target(index_), options_.wait); !copied)
                return std::move(copied).error();
        for (std::uint32_t f = 0; f < files_.size(); ++f) {
            if (auto made = make(f, *sources, summary); !made) {
                leave_if_vacant();
                return std::move(made).error();
            }
        }
        if (auto same = check_unchanged(set_, states->view()); !same)
            return std::move(same).error();
        if (options_.keep_state)
            claim_ = directory_claim{};
        else
            claim_.remove();
        return summary;
    }

private:
    static constexpr std::size_t piece_bytes = std::size_t{512} << 10;
    static constexpr std::uint64_t stride_bytes = std::uint64_t{8} << 20;

    [[nodiscard]] text target(std::string_view path) const noexcept {
        return join_path(directory_, file_name_of(path));
    }

    /// The content of the state file: the names of the files, and what shows that the sources have
    /// not changed.
    [[nodiscard]] text state(span<const source_state> states) const noexcept {
        fingerprint_maker maker;
        maker.add("files as they are");
        maker.add(files_.size());
        for (const file_to_copy& each : files_) {
            maker.add(file_name_of(each.path));
            maker.add(each.size_bytes);
        }
        maker.add(file_name_of(index_));
        for (const source_state& each : states) maker.add(each.modified);
        return writing_state(maker.made());
    }

    result<void> take_directory(span<const source_state> states) noexcept {
        const text wanted = state(states);
        if (wanted.empty() || directory_.empty()) return failure{.code = errc::out_of_memory};
        if (auto made = make_destination(directory_, options_.wait); !made) return made;
        auto started = claim_destination(
            directory_, wanted, options_.resume,
            [this](bool own_allowed) noexcept { return check_vacant(own_allowed); });
        if (!started) return std::move(started).error();
        const bool begun = started->has_begun;
        claim_ = std::move(started->claim);
        if (auto ready = begun ? remove_unfinished() : result<void>{}; !ready) return ready;
        if (auto fits = check_room(); !fits) {
            if (!begun) claim_.remove();
            return fits;
        }
        return begun ? result<void>{} : claim_.write(wanted, options_.wait);
    }

    /// Whether this run makes a file with this name.
    [[nodiscard]] bool is_own(std::string_view name) const noexcept {
        if (!index_.empty() && name == file_name_of(index_)) return true;
        for (const file_to_copy& each : files_)
            if (name == file_name_of(each.path)) return true;
        return false;
    }

    [[nodiscard]] result<void> check_vacant(bool own_allowed) const noexcept {
        failure occupied{.code = errc::destination_not_empty, .file = directory_};
        auto listed = detail::list_directory(
            directory_, [&](std::string_view name, bool is_directory) noexcept {
                if (is_directory || name.starts_with('.') ||
                    !(name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending)) ||
                    (own_allowed && is_own(name)))
                    return true;
                append_quoted(occupied.detail, name);
                occupied.detail.append(" is there");
                return false;
            });
        if (!listed) return listed;
        if (!occupied.detail.empty()) return occupied;
        return {};
    }

    /// Removes the state file and the index if there is no tensor file to resume from.
    void leave_if_vacant() noexcept {
        bool vacant = true;
        const auto listed = detail::list_directory(directory_, [&](std::string_view name,
                                                                   bool is_directory) noexcept {
            vacant = is_directory || name.starts_with('.') || !name.ends_with(tensor_file_ending);
            return vacant;
        });
        if (!listed || !vacant) return;
        if (!index_.empty()) (void)remove_file(target(index_));
        claim_.remove();
    }

    /// Removes partly written files of a killed run.
    [[nodiscard]] result<void> remove_unfinished() const noexcept {
        vector<text> unfinished;
        bool has_room = true;
        auto listed = detail::list_directory(
            directory_, [&](std::string_view name, bool is_directory) noexcept {
                const std::string_view of = unfinished_target(name);
                bool is_ours = !is_directory && !of.empty() && (is_own(of) || of.size() > 60);
                if (is_ours) has_room = unfinished.push(join_path(directory_, name));
                return has_room;
            });
        if (!listed) return listed;
        if (!has_room) return failure{.code = errc::out_of_memory, .file = directory_};
        for (const text& each : unfinished)
            if (auto removed = remove_file(each); !removed) return removed;
        return {};
    }

    /// Whether a file exists. If so it is complete, because files get their names when they are
    /// complete.
    [[nodiscard]] bool is_whole(std::uint32_t f) const noexcept {
        const auto file = open_file::open(target(files_[f].path));
        return file && file->size_bytes() == files_[f].size_bytes;
    }

    [[nodiscard]] result<void> check_room() noexcept {
        std::uint64_t needed = options_.other_bytes;
        bool fits = true;
        for (std::uint32_t f = 0; f < files_.size(); ++f) {
            fits = fits && checked_add(total_bytes_, files_[f].size_bytes, total_bytes_);
            if (!is_whole(f)) fits = fits && checked_add(needed, files_[f].size_bytes, needed);
        }
        if (!fits) return failure{.code = errc::size_overflow, .file = directory_};
        if (!options_.check_free_space || options_.share != sharing::nothing) return {};
        auto free_bytes = free_space_bytes(directory_);
        if (!free_bytes) return std::move(free_bytes).error();
        if (*free_bytes >= needed) return {};
        return failure{.code = errc::disk_full,
                       .file = directory_,
                       .detail = "nothing was written",
                       .expected = needed,
                       .actual = *free_bytes};
    }

    /// Makes a file unless it exists: as a hard link to the source or as a copy.
    result<void> make(std::uint32_t f, const source_files& sources,
                      rewrite_summary& summary) noexcept {
        const text path = target(files_[f].path);
        bool is_there = options_.resume && is_whole(f);
        summary.kept_shard_count += is_there ? 1 : 0;
        if (!is_there)
            if (auto safe = sources.check_replaceable(set_, path); !safe) return safe;
        if (!is_there && options_.share == sharing::files && link(f, path)) {
            is_there = true;
            ++summary.linked_shard_count;
        }
        if (!is_there) return copy(f, path, summary);
        if (options_.wait == durability::synced)  // the earlier run may not have synced it
            if (const auto came = os::sync_path(path.c_str()); !came) return came.about(path);
        done_bytes_ += files_[f].size_bytes;
        return told(f);
    }

    [[nodiscard]] bool link(std::uint32_t f, const text& path) const noexcept {
        const std::intptr_t native = set_.native_handle(f);
        if (native == no_native_handle) return false;
        (void)os::remove_file(path.c_str());
        if (!link_file(files_[f].path, path)) return false;
        if (os::is_same_file(os::handle_of(native), path.c_str())) return true;
        (void)os::remove_file(path.c_str());
        return false;
    }

    result<void> copy(std::uint32_t f, const text& path, rewrite_summary& summary) noexcept {
        const std::uint64_t size_bytes = files_[f].size_bytes;
        auto file = output_file::create(path, size_bytes, options_.share == sharing::nothing,
                                        permissions_of_sources(set_));
        if (!file) return std::move(file).error();
        std::uint64_t offset = 0;
        const std::uint64_t shared = size_bytes - size_bytes % share_multiple_bytes;
        if (options_.share != sharing::nothing && shared != 0 &&
            file->share(0, set_.native_handle(f), 0, shared)) {
            offset = shared;
            summary.shared_bytes += shared;
            done_bytes_ += shared;
        }
        if (buffer_.empty() && !buffer_.resize_unset(piece_bytes))
            return failure{.code = errc::out_of_memory, .file = path};
        for (std::uint64_t released = offset; offset < size_bytes;) {
            const std::uint64_t left = size_bytes - offset;
            const span<std::byte> piece = buffer_.view().subspan(
                0, left < piece_bytes ? static_cast<std::size_t>(left) : piece_bytes);
            if (auto same = set_.check(f); !same) return same;
            if (auto read = set_.read(f, offset, piece); !read) return read;
            if (auto written = file->write(offset, piece); !written) return written;
            offset += piece.size();
            done_bytes_ += piece.size();
            if (offset - released >= stride_bytes || offset == size_bytes) {
                set_.advise(f, released, offset - released, options_.used_source);
                if (options_.wait == durability::synced) file->start_writing();
                released = offset;
            }
            if (auto going = told(f); !going) return going;
        }
        return file->commit(options_.wait);
    }

    [[nodiscard]] result<void> told(std::uint32_t f) const noexcept {
        if (progress_({file_name_of(files_[f].path), done_bytes_, total_bytes_})) return {};
        return failure{.code = errc::canceled};
    }

    tensor_set_ref set_;
    span<const file_to_copy> files_;
    std::string_view index_;
    text directory_;
    const rewrite_options& options_;
    progress_ref progress_;
    directory_claim claim_;
    vector<std::byte> buffer_;
    std::uint64_t done_bytes_ = 0;
    std::uint64_t total_bytes_ = 0;
};

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
