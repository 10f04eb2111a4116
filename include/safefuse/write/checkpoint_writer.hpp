// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: writes a checkpoint of many files, shard by shard. Each shard is either complete under
// its name or absent, and the index is written last. A killed run can be resumed.
//
//     OUT/.safefuse-writing                    the state file: a lock and an identity of what is
//                                              written; removed at the end
//     OUT/.model-00002-of-00003.safetensors.0123456789abcdef.tmp
//                                              the shard being written; a killed run leaves it
//     OUT/model-00001-of-00003.safetensors     complete; it was synced before it got this name
//     OUT/model.safetensors.index.json         written after all shards
#ifndef SAFEFUSE_WRITE_CHECKPOINT_WRITER_HPP
#define SAFEFUSE_WRITE_CHECKPOINT_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/header_writer.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/os_calls.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/output_file.hpp>
#include <safefuse/tensor/tensor_view.hpp>
#include <safefuse/write/checkpoint_files.hpp>
#include <safefuse/write/checkpoint_outline.hpp>
#include <safefuse/write/detail/directory_claim.hpp>
#include <safefuse/write/fingerprint.hpp>
#include <safefuse/write/tensor_file_writer.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Writes a checkpoint to a directory: shard by shard, then the index. The directory is locked
/// while the writer lives.
class checkpoint_writer : public checkpoint_outline {
public:
    /// After the move the other writer owns nothing: it finishes and removes nothing.
    checkpoint_writer(checkpoint_writer&&) noexcept = default;
    /// First treats this writer's own files as the destructor does.
    checkpoint_writer& operator=(checkpoint_writer&& other) noexcept {
        if (this != &other) {
            this->~checkpoint_writer();
            new (this) checkpoint_writer{std::move(other)};
        }
        return *this;
    }
    /// Without a finish(), complete shards stay and can be resumed. If there is none, nothing
    /// stays.
    ~checkpoint_writer() {
        if (claim_.holds() && !keep_state_ && check_vacant(false)) claim_.remove();
    }

    /// Splits the tensors into shards, in the order given, and creates the directory if it is
    /// missing. A directory that contains tensor files or an index is refused, except for the files
    /// of an unfinished run of the same checkpoint if `options.resume` is set. Shards of that run
    /// are kept if their size and header are those that would be written (a shard is synced before
    /// it gets its name). Half-written files are removed.
    ///   lifetime  refers to the caller's names, shapes and metadata until finish()
    ///   fails   duplicate_tensor, size_overflow, partial_byte, not_a_directory,
    ///           destination_not_empty, another_rewrite (the run begun there has another identity,
    ///           other names or another split), in_use, disk_full (less room than all files need),
    ///           io_error (a file would exceed the size limit of this process), and as
    ///           encode_header and creating a directory do
    static result<checkpoint_writer> create(std::string_view directory,
                                            span<const tensor_spec> tensors SAFEFUSE_LIFETIMEBOUND,
                                            const write_options& options = {}) noexcept {
        checkpoint_writer writer;
        if (auto filled = writer.fill(tensors, options); !filled) return std::move(filled).error();
        writer.directory_ = directory;
        writer.wait_ = options.wait;
        writer.reserve_ = options.reserve;
        writer.other_bytes_ = options.other_bytes;
        writer.permissions_ = options.permissions;
        writer.keep_state_ = options.keep_state;
        if (writer.directory_.size() != directory.size() ||
            !writer.done_.resize(writer.shard_count(), false))
            return failure{.code = errc::out_of_memory, .file = directory};
        auto ready = writer.take_directory(options);
        if (!ready) return std::move(ready).error();
        return writer;
    }

    /// Whether a shard was already there and complete.
    [[nodiscard]] bool is_done(std::uint32_t shard) const noexcept { return done_[shard]; }

    /// Opens a shard's file for writing; the caller commits it. Its tensors are tensors_of(shard),
    /// in that order.
    ///   fails   as tensor_file_writer::create
    [[nodiscard]] result<tensor_file_writer> open_shard(std::uint32_t shard) const noexcept {
        vector<tensor_spec> specs;
        if (!specs_of(shard, specs)) return failure{.code = errc::out_of_memory};
        auto header = header_of(shard);
        if (!header) return std::move(header).error();
        return tensor_file_writer::create(path_of(shard), specs.view(), std::move(*header),
                                          reserve_, permissions_);
    }

    /// Path of a shard's file, present or not.
    [[nodiscard]] text shard_path(std::uint32_t shard) const noexcept { return path_of(shard); }

    /// Makes a shard a hard link to `file`, which must be byte for byte what the shard will be.
    /// `native_handle` is the open file; the link is undone if it names another file. Returns false
    /// if the link cannot be made: write the shard then.
    [[nodiscard]] bool link_shard(std::uint32_t shard, std::string_view file,
                                  std::intptr_t native_handle) const noexcept {
        const text path = path_of(shard);
        if (path.empty() || file.empty() || native_handle == no_native_handle) return false;
        const text source{file};
        if (source.size() != file.size()) return false;
        // synced by path: Windows cannot sync through a read-only handle
        if (wait_ == durability::synced && !detail::os::sync_path(source.c_str())) return false;
        // Remove a shard that was there with other content.
        (void)detail::os::remove_file(path.c_str());
        if (!detail::link_file(file, path)) return false;
        if (!detail::os::is_same_file(detail::os::handle_of(native_handle), path.c_str())) {
            (void)detail::os::remove_file(path.c_str());
            return false;
        }
        return wait_ != durability::synced || detail::os::sync_directory(directory_.c_str());
    }

    /// Writes the shard index if there is more than one shard, and unlocks the directory. The state
    /// file stays if write_options::keep_state is set. Call it after all shards are committed.
    ///   fails   as encode_index and output_file
    result<void> finish() noexcept {
        auto encoded = index();
        if (!encoded) return std::move(encoded).error();
        if (!encoded->empty()) {
            auto file = output_file::create(detail::join_path(directory_, index_file),
                                            encoded->size(), true, permissions_);
            if (!file) return std::move(file).error();
            if (auto written = file->write(0, encoded->view()); !written) return written;
            if (auto committed = file->commit(wait_); !committed) return committed;
        }
        if (keep_state_)
            claim_ = detail::directory_claim{};
        else
            claim_.remove();
        return {};
    }

private:
    static constexpr std::string_view index_file = "model.safetensors.index.json";

    checkpoint_writer() noexcept = default;

    [[nodiscard]] text path_of(std::uint32_t shard) const noexcept {
        return detail::join_path(directory_, shard_file(shard));
    }

    result<void> take_directory(const write_options& options) noexcept {
        const text state = detail::writing_state(whole_identity(options.identity));
        if (state.empty()) return failure{.code = errc::out_of_memory};
        if (auto fits = check_sizes(); !fits) return fits;
        if (auto made = detail::make_destination(directory_, options.wait); !made) return made;
        auto started = detail::claim_destination(
            directory_, state, options.resume,
            [this](bool own_allowed) noexcept { return check_vacant(own_allowed); });
        if (!started) return std::move(started).error();
        const bool begun = started->has_begun;
        claim_ = std::move(started->claim);  // from here on the destructor cleans up
        if (begun)
            if (auto found_shards = find_done_shards(); !found_shards) return found_shards;
        if (options.check_free_space)
            if (auto fits = check_free_space(); !fits) return fits;
        return begun ? result<void>{} : claim_.write(state, wait_);
    }

    /// Checks that the directory contains no files of a checkpoint. The files of this checkpoint
    /// are accepted if `own_allowed`.
    [[nodiscard]] result<void> check_vacant(bool own_allowed) const noexcept {
        failure occupied{.code = errc::destination_not_empty, .file = directory_};
        detail::name_table own;
        vector<text> names;
        const auto name_of = [&](std::uint32_t i) noexcept { return names[i].view(); };
        for (std::uint32_t shard = 0; own_allowed && shard < shard_count(); ++shard)
            if (!names.push(shard_file(shard))) return failure{.code = errc::out_of_memory};
        if (!own.reserve(names.size())) return failure{.code = errc::out_of_memory};
        for (std::uint32_t i = 0; i < names.size(); ++i)
            static_cast<void>(own.insert(names[i], i, name_of));
        auto listed = detail::list_directory(
            directory_, [&](std::string_view name, bool is_directory) noexcept {
                if (is_directory || name.starts_with('.') ||
                    !(name.ends_with(tensor_file_ending) || name.ends_with(shard_index_ending)))
                    return true;
                if (own_allowed &&
                    (name == index_file || own.find(name, name_of) != detail::name_table::npos))
                    return true;
                detail::append_quoted(occupied.detail, name);
                occupied.detail.append(" is there");
                return false;
            });
        if (!listed) return listed;
        if (!occupied.detail.empty()) return occupied;
        return {};
    }

    /// Removes half-written files of a killed run and finds the shards that it completed.
    result<void> find_done_shards() noexcept {
        vector<text> unfinished;
        bool has_room = true;
        auto listed = detail::list_directory(
            directory_, [&](std::string_view name, bool is_directory) noexcept {
                if (!is_directory && is_unfinished_file_name(name))
                    has_room = unfinished.push(detail::join_path(directory_, name));
                return has_room;
            });
        if (!listed) return listed;
        if (!has_room) return failure{.code = errc::out_of_memory, .file = directory_};
        for (const text& each : unfinished)
            if (auto removed = detail::remove_file(each); !removed) return removed;
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto whole = is_whole(shard);
            if (!whole) return std::move(whole).error();
            done_[shard] = *whole;
            if (!*whole || wait_ != durability::synced) continue;
            const text path = path_of(shard);  // the killed run may not have synced it
            if (const auto came = detail::os::sync_path(path.c_str()); !came)
                return came.about(path);
        }
        return {};
    }

    [[nodiscard]] result<bool> is_whole(std::uint32_t shard) const noexcept {
        const text path = path_of(shard);
        auto file = detail::open_file::open(path);
        if (!file &&
            (file.error().code == errc::file_not_found || file.error().code == errc::not_a_file))
            return false;
        if (!file) return std::move(file).error();
        auto header = header_of(shard);
        if (!header) return std::move(header).error();
        if (file->size_bytes() != header->file_bytes) return false;
        vector<std::byte> start;
        if (!start.resize_unset(header->bytes.size()))
            return failure{.code = errc::out_of_memory, .file = path};
        if (auto read = file->read(0, start.view()); !read) return std::move(read).error();
        return std::memcmp(start.data(), header->bytes.data(), start.size()) == 0;
    }

    /// Checks the largest file against the file size limit of this process.
    [[nodiscard]] result<void> check_sizes() const noexcept {
        if (detail::os::largest_file_bytes() == unknown) return {};
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto header = header_of(shard);
            if (!header) return std::move(header).error();
            if (auto fits = detail::check_file_size_limit(path_of(shard), header->file_bytes);
                !fits)
                return fits;
        }
        return {};
    }

    [[nodiscard]] result<void> check_free_space() const noexcept {
        auto encoded = index();
        if (!encoded) return std::move(encoded).error();
        std::uint64_t needed = encoded->size();
        if (!detail::checked_add(needed, other_bytes_, needed))
            return failure{.code = errc::size_overflow, .file = directory_};
        for (std::uint32_t shard = 0; shard < shard_count(); ++shard) {
            auto header = header_of(shard);
            if (!header) return std::move(header).error();
            if (!done_[shard] && !detail::checked_add(needed, header->file_bytes, needed))
                return failure{.code = errc::size_overflow, .file = directory_};
        }
        auto free_bytes = free_space_bytes(directory_);
        if (!free_bytes) return std::move(free_bytes).error();
        if (*free_bytes >= needed) return {};
        return failure{.code = errc::disk_full,
                       .file = directory_,
                       .detail = "nothing was written",
                       .expected = needed,
                       .actual = *free_bytes};
    }

    text directory_;
    durability wait_ = durability::synced;
    bool reserve_ = true;
    std::uint64_t other_bytes_ = 0;
    bool keep_state_ = false;
    std::uint32_t permissions_ = default_file_permissions;
    vector<bool> done_;
    detail::directory_claim claim_;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
