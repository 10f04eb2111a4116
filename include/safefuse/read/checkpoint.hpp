// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: many tensor files as one set of named tensors, found by the shard index or without one.
#ifndef SAFEFUSE_READ_CHECKPOINT_HPP
#define SAFEFUSE_READ_CHECKPOINT_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/format/detail/first_bytes.hpp>
#include <safefuse/format/header.hpp>
#include <safefuse/format/read_options.hpp>
#include <safefuse/format/shard_index.hpp>
#include <safefuse/io/detail/open_file.hpp>
#include <safefuse/io/detail/path.hpp>
#include <safefuse/io/mapped_file.hpp>
#include <safefuse/io/positional_file.hpp>
#include <safefuse/read/checkpoint_report.hpp>
#include <safefuse/read/detail/locate.hpp>
#include <safefuse/read/detail/shard_index_text.hpp>
#include <safefuse/read/tensor_file.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/tensor_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_view.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The most files whose handles a checkpoint keeps: systems let a process have 256 to 1,024 of
/// them. The files of larger ones are opened again when they are read by offset or checked, and
/// cannot be shared or linked.
inline constexpr std::size_t most_open_files = 200;

/// How a checkpoint is read.
struct checkpoint_options {
    read_options read{};  ///< of every header
    /// Tensors that a shard holds and the index does not list are part of the checkpoint, as
    /// transformers has it, and not invisible.
    bool show_unlisted = false;
    /// Which variant of a directory is read: fp16 for model.safetensors.index.fp16.json and the
    /// other spellings. Empty: what has no variant, and a variant only where there is nothing else.
    std::string_view variant{};
};

namespace detail {

/// What a checkpoint is made of. It has a block of memory of its own, so that it stays where it is
/// when the checkpoint moves.
template <file_source Source>
struct checkpoint_tables {
    struct row {
        std::string_view name;  // again, so that a search needs not look it up in the file's header
        std::uint32_t file;
        std::uint32_t entry;
    };

    vector<basic_tensor_file<Source>> files;
    vector<row> rows;
    name_table names;
    std::size_t unlisted_count = 0;
    text index_path;

    [[nodiscard]] tensor_entry entry(std::size_t i) const noexcept {
        return files[rows[i].file][rows[i].entry];
    }
};

}  // namespace detail

/// The tensors of a checkpoint as a tensor set that stays valid when the checkpoint is moved. Plans
/// hold one.
///   lifetime  of what the checkpoint holds, wherever that is moved to
template <class Source>
class checkpoint_view {
public:
    /// @{
    /// As the checkpoint's own.
    [[nodiscard]] std::size_t size() const noexcept {
        return tables_ == nullptr ? 0 : tables_->rows.size();
    }
    [[nodiscard]] tensor_spec spec(std::size_t i) const noexcept { return tables_->entry(i); }
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        const auto& at = tables_->rows[i];
        return {at.file, tables_->files[at.file].offset_bytes(at.entry),
                tables_->entry(i).size_bytes()};
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const noexcept {
        return tables_->files[source].path();
    }
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return tables_->files[source].source().bytes();
    }
    result<void> read(std::uint32_t source, std::uint64_t offset,
                      span<std::byte> out) const noexcept {
        auto done = tables_->files[source].source().read(offset, out);
        if (!done && done.error().file.empty()) done.error().file = tables_->files[source].path();
        return done;
    }
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        tables_->files[source].source().advise(offset, size_bytes, hint);
    }
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        if constexpr (requires(const Source& file) { file.native_handle(); })
            return tables_->files[source].source().native_handle();
        else
            return no_native_handle;
    }
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        if constexpr (requires(const Source& file) { file.check_size(); })
            return tables_->files[source].source().check_size();
        else
            return {};
    }
    /// @}

private:
    template <class>
    friend class basic_checkpoint;
    explicit checkpoint_view(const detail::checkpoint_tables<Source>* tables) noexcept
        : tables_{tables} {}

    const detail::checkpoint_tables<Source>* tables_;  // null: the checkpoint was moved from
};

/// The tensors of a directory, a shard index or a single file, numbered by file and offset. A
/// tensor_set. What a path stands for: an index that is named; in a directory its one
/// *.safetensors.index.json; else model.safetensors; else the only .safetensors file; else one
/// complete numbered series. The index decides which file holds which tensor: what it does not list
/// is invisible, wherever it lies, unless checkpoint_options::show_unlisted asks for it.
///   lifetime  views, names and plans die with the checkpoint; a move keeps them. What was moved
///   from has no tensors. units     one file handle for each file; none where there are more than
///   most_open_files of them
template <class Source>
class basic_checkpoint {
public:
    static_assert(file_source<Source>,
                  "safefuse: what a checkpoint should open its files as is no file_source");

    /// What the files are opened as.
    using file_type = basic_tensor_file<Source>;
    /// What a search returns for a name that is not there.
    static constexpr std::size_t npos = ~std::size_t{0};
    /// Views of a temporary checkpoint do not compile.
    static constexpr bool lends_views = true;

    /// Opens all files and checks headers and index against each other; no tensor's bytes are read.
    /// The first thing that is wrong ends it: verify() finds the rest.
    ///   fails   no_checkpoint, several_indexes, incomplete_series, bad_json, bad_index,
    ///   path_leaves_directory, missing_shard,
    ///           tensor_not_in_shard, tensor_in_two_shards (without an index), and as
    ///           tensor_file::open
    static result<basic_checkpoint> open(std::string_view path,
                                         const checkpoint_options& options = {}) noexcept {
        return open_with(path, options, nullptr);
    }

    /// The same, and all that is remarkable, as verify() tells it, without reading the headers
    /// twice. Where it fails, `report` is as it was.
    static result<basic_checkpoint> open(std::string_view path, const checkpoint_options& options,
                                         checkpoint_report& report) noexcept {
        checkpoint_report fresh;
        auto made = open_with(path, options, &fresh);
        if (made) report = std::move(fresh);
        return made;
    }

    /// Looks for everything that is wrong at once, also where open() fails, with one file open at a
    /// time. Headers are read, tensors are not.
    ///   fails   out_of_memory; all else is in the report
    static result<checkpoint_report> verify(std::string_view path,
                                            const checkpoint_options& options = {}) noexcept {
        checkpoint_report report;
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done) {
            if (done.error().code == errc::out_of_memory || !report.add(std::move(done).error()))
                return failure{.code = errc::out_of_memory, .file = path};
        }
        const bool has_room = found.index.empty() ? verify_files(found, options, report)
                                                  : verify_index(found, options, report);
        if (!has_room) return failure{.code = errc::out_of_memory, .file = path};
        return report;
    }

    /// The path of the shard index that was used; empty without one.
    [[nodiscard]] std::string_view index_path() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_.empty() ? std::string_view{} : tables_[0].index_path.view();
    }
    /// How many files are open.
    [[nodiscard]] std::size_t file_count() const noexcept {
        return tables_.empty() ? 0 : tables_[0].files.size();
    }
    /// File i of the checkpoint, with all its tensors, listed or not.
    [[nodiscard]] const file_type& file(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[i];
    }
    /// How many tensors lie in the files without being in the index.
    [[nodiscard]] std::size_t unlisted_count() const noexcept {
        return tables_.empty() ? 0 : tables_[0].unlisted_count;
    }

    /// What plans hold in place of the checkpoint: it stays valid when the checkpoint is moved.
    ///   lifetime  of what the checkpoint holds, wherever that is moved to
    [[nodiscard]] checkpoint_view<Source> stable_view() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return checkpoint_view<Source>{tables_.begin()};
    }

    /// How many tensors the checkpoint has.
    [[nodiscard]] std::size_t size() const noexcept { return stable_view().size(); }
    /// Name, dtype and shape of tensor i.
    ///   lifetime  valid as long as the checkpoint
    [[nodiscard]] tensor_spec spec(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].entry(i);
    }
    /// @{
    /// For range-based loops over name, dtype and shape of every tensor: `for (const
    /// sf::tensor_spec& each : *checkpoint)`.
    [[nodiscard]] tensor_iterator<basic_checkpoint> begin() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, 0};
    }
    [[nodiscard]] tensor_iterator<basic_checkpoint> end() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, size()};
    }
    /// @}
    /// The names of all tensors.
    ///   lifetime  until the checkpoint moves or ends
    [[nodiscard]] tensor_names<basic_checkpoint> names() const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensor_names<basic_checkpoint>{*this};
    }
    /// Where tensor i lies: `source` is the number of its file, `offset` counts from the start of
    /// the file.
    [[nodiscard]] tensor_location place(std::size_t i) const noexcept {
        return stable_view().place(i);
    }
    /// The path of a file.
    [[nodiscard]] std::string_view source_name(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].path();
    }
    /// A file's bytes, or an empty span where they must be read.
    [[nodiscard]] span<const std::byte> source_bytes(std::uint32_t source) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        return tables_[0].files[source].source().bytes();
    }
    /// Fills `out` from a byte of a file on.
    ///   fails   as Source::read
    result<void> read(std::uint32_t source, std::uint64_t offset,
                      span<std::byte> out) const noexcept {
        return stable_view().read(source, offset, out);
    }
    /// Tells the system what comes next for a range of a file.
    void advise(std::uint32_t source, std::uint64_t offset, std::uint64_t size_bytes,
                advice hint) const noexcept {
        stable_view().advise(source, offset, size_bytes, hint);
    }
    /// The system's number of an open file; no_native_handle for sources that are none.
    [[nodiscard]] std::intptr_t native_handle(std::uint32_t source) const noexcept {
        return stable_view().native_handle(source);
    }
    /// Whether a file still has the size it had when it was opened; sources that cannot tell have.
    ///   fails   file_changed (with both sizes), io_error
    [[nodiscard]] result<void> check(std::uint32_t source) const noexcept {
        return stable_view().check(source);
    }

    /// The number of the tensor of that name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        if (tables_.empty()) return npos;
        const std::uint32_t i = tables_[0].names.find(name, name_of{tables_[0].rows.data()});
        return i == detail::name_table::npos ? npos : i;
    }

    /// Tensor i where it lies, without a copy.
    ///   fails   as tensor_file::view: not_resident (the source must be read: read() copies the
    ///   tensor), read_past_end
    [[nodiscard]] result<tensor_view> view(std::size_t i) const& noexcept SAFEFUSE_LIFETIMEBOUND {
        return file_of(i).view(entry_of(i));
    }
    /// The tensor of that name where it lies, without a copy.
    ///   fails   tensor_not_found, and as view
    [[nodiscard]] result<tensor_view> find(std::string_view name) const& noexcept
        SAFEFUSE_LIFETIMEBOUND {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return view(i);
    }

    // Of a checkpoint that is about to go there are no views.
    std::string_view index_path() const&& = delete;
    const file_type& file(std::size_t) const&& = delete;
    tensor_spec spec(std::size_t) const&& = delete;
    tensor_iterator<basic_checkpoint> begin() const&& = delete;
    tensor_iterator<basic_checkpoint> end() const&& = delete;
    tensor_names<basic_checkpoint> names() const&& = delete;
    std::string_view source_name(std::uint32_t) const&& = delete;
    span<const std::byte> source_bytes(std::uint32_t) const&& = delete;
    result<tensor_view> view(std::size_t) const&& = delete;
    result<tensor_view> find(std::string_view) const&& = delete;
    checkpoint_view<Source> stable_view() const&& = delete;

    /// Copies tensor i.
    ///   fails   wrong_buffer_size (`out` must have the tensor's size; it is then untouched), and
    ///   as Source::read
    result<void> read(std::size_t i, span<std::byte> out) const noexcept {
        return file_of(i).read(entry_of(i), out);
    }
    /// Copies the tensor of that name.
    ///   fails   tensor_not_found, and as above
    result<void> read(std::string_view name, span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read(i, out);
    }

    /// Copies a slice of tensor i and touches no other bytes.
    ///   fails   as slice_runs::of; wrong_buffer_size (`out` must have the slice's size; it is then
    ///   untouched); as Source::read
    result<void> read_slice(std::size_t i, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        return file_of(i).read_slice(entry_of(i), ranges, out);
    }
    /// The same for the tensor of that name.
    ///   fails   tensor_not_found, and as above
    result<void> read_slice(std::string_view name, span<const axis_range> ranges,
                            span<std::byte> out) const noexcept {
        const std::size_t i = index_of(name);
        if (i == npos) return absent(name);
        return read_slice(i, ranges, out);
    }

private:
    static constexpr std::uint32_t unlisted = detail::name_table::npos;

    using tables = detail::checkpoint_tables<Source>;
    using row = typename tables::row;
    struct name_of {
        const row* rows;
        std::string_view operator()(std::uint32_t i) const noexcept { return rows[i].name; }
    };

    [[nodiscard]] const file_type& file_of(std::size_t i) const noexcept {
        return tables_[0].files[tables_[0].rows[i].file];
    }
    [[nodiscard]] std::size_t entry_of(std::size_t i) const noexcept {
        return tables_[0].rows[i].entry;
    }
    [[nodiscard]] failure absent(std::string_view name) const noexcept {
        return {.code = errc::tensor_not_found, .file = index_path(), .tensor = name};
    }

    // `report` is a checkpoint_report* or nullptr: who wants no report does not link what makes
    // one.
    template <class Report>
    SAFEFUSE_NOINLINE static result<basic_checkpoint> open_with(std::string_view path,
                                                                const checkpoint_options& options,
                                                                Report report) noexcept {
        detail::resolved_checkpoint found;
        if (auto done = detail::resolve_checkpoint(path, options.variant, found); !done)
            return std::move(done).error();
        basic_checkpoint made;
        if (!made.tables_.reserve(1) || !made.tables_.push({}))
            return failure{.code = errc::out_of_memory, .file = path};
        auto done = found.index.empty() ? made.open_files(found, options, report)
                                        : made.open_index(found, options, report);
        if (!done) return std::move(done).error();
        made.tables_[0].index_path = std::move(found.index);
        return made;
    }

    /// Adds one of `file_count` files; false when memory runs out.
    bool keep(file_type&& file, std::size_t file_count) noexcept {
        if (file_count > most_open_files) file.close_handle();
        return tables_[0].files.push(std::move(file));
    }

    template <class Report>
    result<void> open_index(const detail::resolved_checkpoint& found,
                            const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.index};
        const auto json = detail::index_text<Source>::open(found.index);  // the index refers to it
        if (!json) return json.error();
        auto index = shard_index::parse(json->bytes());
        if (!index) return detail::index_failure(index.error(), found.index, json->bytes());
        detail::tensors_by_file listed;
        vector<std::uint32_t> number_of,
            row_of;  // in the index, of the tensors of one file; of the index's tensors
        if (index->size() >= unlisted || !listed.fill(*index) ||
            !to.files.reserve(index->file_count()) || !to.rows.reserve(index->size()) ||
            !row_of.resize_unset(index->size()))
            return no_memory;
        bool shown = false;  // a tensor that is not listed
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const span<const std::uint32_t> tensors = listed.of(f);
            const text path = detail::join_path(found.directory, index->file(f));
            if (path.empty()) return no_memory;
            auto opened = file_type::open(path, options.read);
            if (!opened)
                return detail::shard_failure(
                    std::move(opened).error(), found.index,
                    tensors.empty() ? std::string_view{} : index->tensor(tensors[0]));
            number_of.clear();
            if (!number_of.resize(opened->size(), unlisted)) return no_memory;
            for (const std::uint32_t i : tensors) {
                const std::size_t at = opened->index_of(index->tensor(i));
                if (at == file_type::npos)
                    return failure{.code = errc::tensor_not_in_shard,
                                   .file = path,
                                   .tensor = index->tensor(i)};
                number_of[at] = i;
            }
            for (std::size_t at = 0; at < number_of.size(); ++at) {
                if (number_of[at] == unlisted) {
                    if (!options.show_unlisted ||
                        index->find((*opened)[at].name) != shard_index::npos)
                        continue;
                    shown = true;
                } else {
                    row_of[number_of[at]] = static_cast<std::uint32_t>(to.rows.size());
                }
                if (!to.rows.push({(*opened)[at].name, static_cast<std::uint32_t>(f),
                                   static_cast<std::uint32_t>(at)}))
                    return no_memory;
            }
            to.unlisted_count += opened->size() - tensors.size();
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_shard(*opened, number_of.view(), *index, *report)) return no_memory;
            if (!keep(std::move(*opened), index->file_count())) return no_memory;
        }
        if constexpr (!std::is_null_pointer_v<Report>)
            if (!note_index(found, *index, *report)) return no_memory;
        if (shown) return number_names(found);
        to.names = detail::take_names(
            std::move(*index), row_of.view());  // the names are the same, now the headers hold them
        return {};
    }

    template <class Report>
    result<void> open_files(const detail::resolved_checkpoint& found,
                            const checkpoint_options& options, Report report) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.directory};
        if (!to.files.reserve(found.files.size())) return no_memory;
        for (const text& path : found.files) {
            auto opened = file_type::open(path, options.read);
            if (!opened) return std::move(opened).error();
            if constexpr (!std::is_null_pointer_v<Report>)
                if (!note_file(*opened, *report)) return no_memory;
            if (!to.rows.reserve(to.rows.size() + opened->size())) return no_memory;
            for (std::size_t at = 0; at < opened->size(); ++at)
                if (!to.rows.push({(*opened)[at].name, static_cast<std::uint32_t>(to.files.size()),
                                   static_cast<std::uint32_t>(at)}))
                    return no_memory;
            if (!keep(std::move(*opened), found.files.size())) return no_memory;
        }
        return number_names(found);
    }

    result<void> number_names(const detail::resolved_checkpoint& found) noexcept {
        tables& to = tables_[0];
        const failure no_memory{.code = errc::out_of_memory, .file = found.directory};
        if (to.rows.size() >= detail::name_table::npos || !to.names.reserve(to.rows.size()))
            return no_memory;
        for (std::uint32_t i = 0; i < to.rows.size(); ++i) {
            const auto added = to.names.insert(to.rows[i].name, i, name_of{to.rows.data()});
            if (added.what == detail::name_table::outcome::out_of_memory) return no_memory;
            if (added.what == detail::name_table::outcome::already_there)
                return in_two_shards(to.rows[i].name, source_name(to.rows[i].file),
                                     source_name(to.rows[added.index].file));
        }
        return {};
    }

    [[nodiscard]] static failure in_two_shards(std::string_view tensor, std::string_view file,
                                               std::string_view first_file) noexcept {
        failure why{.code = errc::tensor_in_two_shards,
                    .file = file,
                    .tensor = tensor,
                    .detail = "it is also in "};
        detail::append_quoted(why.detail, detail::file_name_of(first_file));
        return why;
    }

    // Each returns false when memory runs out.

    static bool verify_index(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        const auto json = detail::index_text<Source>::open(found.index);
        if (!json)
            return json.error().code != errc::out_of_memory && report.add(failure{json.error()});
        vector<failure> problems;
        const auto index = shard_index::parse(json->bytes(), problems);
        for (std::size_t p = 0; p < problems.size(); ++p) {
            failure& each = problems[p];
            if (each.code == errc::out_of_memory) continue;  // told already
            each.file = found.index;
            if (!detail::tell_once(problems, p) || !report.add(std::move(each))) return false;
        }
        if (!index) {
            failure why = detail::index_failure(index.error(), found.index, json->bytes());
            return why.code != errc::out_of_memory && report.add(std::move(why));
        }

        detail::tensors_by_file listed;
        if (!listed.fill(*index)) return false;
        bool all_found = problems.empty();
        for (std::size_t f = 0; f < index->file_count(); ++f) {
            const std::size_t failures_before = report.failures_.size();
            if (!verify_shard(found, options, *index, f, listed.of(f), report)) return false;
            all_found = all_found && report.failures_.size() == failures_before;
        }
        return all_found ? note_index(found, *index, report)
                         : note_unused_files(found, *index, report);
    }

    /// Notes what is remarkable about an index whose tensors were all found.
    static bool note_index(const detail::resolved_checkpoint& found, const shard_index& index,
                           checkpoint_report& report) noexcept {
        if (index.total_size_bytes() != unknown &&
            index.total_size_bytes() != report.tensor_bytes_ &&
            !report.add(checkpoint_note{.what = checkpoint_note::kind::total_size_differs,
                                        .file = found.index,
                                        .expected = index.total_size_bytes(),
                                        .actual = report.tensor_bytes_}))
            return false;
        return note_unused_files(found, index, report);
    }

    static bool verify_shard(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options, const shard_index& index,
                             std::size_t f, span<const std::uint32_t> tensors,
                             checkpoint_report& report) noexcept {
        const text path = detail::join_path(found.directory, index.file(f));
        if (path.empty()) return false;
        auto opened = file_type::open(path, options.read);
        if (!opened)
            return opened.error().code != errc::out_of_memory &&
                   report.add(detail::shard_failure(
                       std::move(opened).error(), found.index,
                       tensors.empty() ? std::string_view{} : index.tensor(tensors[0])));
        vector<std::uint32_t> number_of;
        if (!number_of.resize(opened->size(), unlisted)) return false;
        for (const std::uint32_t i : tensors) {
            const std::size_t at = opened->index_of(index.tensor(i));
            if (at != file_type::npos)
                number_of[at] = i;
            else if (!report.add(failure{.code = errc::tensor_not_in_shard,
                                         .file = path,
                                         .tensor = index.tensor(i)}))
                return false;
        }
        return note_shard(*opened, number_of.view(), index, report);
    }

    /// Counts what a shard holds, and notes what is remarkable. `number_of` gives the numbers of
    /// its tensors in the index.
    static bool note_shard(const file_type& file, span<const std::uint32_t> number_of,
                           const shard_index& index, checkpoint_report& report) noexcept {
        ++report.file_count_;
        checkpoint_note none{
            .what = checkpoint_note::kind::unlisted_tensors, .file = file.path(), .count = 0};
        checkpoint_note other{
            .what = checkpoint_note::kind::superseded_tensors, .file = file.path(), .count = 0};
        for (std::size_t at = 0; at < number_of.size(); ++at) {
            if (number_of[at] != unlisted) {
                ++report.tensor_count_;
                report.count_bytes(file[at].size_bytes());
                continue;
            }
            checkpoint_note& note = index.find(file[at].name) == shard_index::npos ? none : other;
            if (note.count++ == 0) note.tensor = file[at].name;
        }
        return report.add_tolerated(file.path(), file.header()) &&
               (none.count == 0 || report.add(std::move(none))) &&
               (other.count == 0 || report.add(std::move(other)));
    }

    /// The same for a file that no index lists.
    static bool note_file(const file_type& file, checkpoint_report& report) noexcept {
        ++report.file_count_;
        report.tensor_count_ += file.size();
        report.count_bytes(file.header().data_bytes() - file.header().gap_bytes());
        return report.add_tolerated(file.path(), file.header());
    }

    static bool note_unused_files(const detail::resolved_checkpoint& found,
                                  const shard_index& index, checkpoint_report& report) noexcept {
        vector<text> unused;
        detail::name_table used;
        bool has_room = used.reserve(index.file_count());
        const auto used_name = [&](std::uint32_t f) noexcept {
            std::string_view name = index.file(f);
            while (name.starts_with("./")) name.remove_prefix(2);
            return name;
        };
        for (std::uint32_t f = 0; has_room && f < index.file_count(); ++f)
            has_room = used.insert(used_name(f), f, used_name).what !=
                       detail::name_table::outcome::out_of_memory;
        if (!has_room) return false;
        // A directory that cannot be listed is no news: its files were opened, or were not, above.
        (void)detail::list_directory(
            found.directory, [&](std::string_view name, bool is_directory) noexcept {
                if (is_directory || name.starts_with('.') || !name.ends_with(tensor_file_ending))
                    return true;
                if (used.find(name, used_name) != detail::name_table::npos) return true;
                text copy{name};
                has_room = copy.size() == name.size() && unused.push(std::move(copy));
                return has_room;
            });
        if (!has_room || !detail::sort_naturally(unused)) return false;
        for (const text& name : unused) {
            text path = detail::join_path(found.directory, name);
            if (path.empty() ||
                !report.add(checkpoint_note{.what = checkpoint_note::kind::unused_file,
                                            .file = std::move(path)}))
                return false;
        }
        return true;
    }

    static bool verify_files(const detail::resolved_checkpoint& found,
                             const checkpoint_options& options,
                             checkpoint_report& report) noexcept {
        // One file is open at a time, so the names that must be compared are copied.
        struct seen {
            std::size_t first;
            std::uint32_t size;
            std::uint32_t file;
        };
        vector<char> names;
        vector<seen> tensors;
        detail::name_table table;
        const auto seen_name = [&](std::uint32_t i) noexcept {
            return detail::characters_at(names.data() + tensors[i].first, tensors[i].size);
        };
        for (std::size_t f = 0; f < found.files.size(); ++f) {
            auto opened = file_type::open(found.files[f], options.read);
            if (!opened) {
                if (opened.error().code == errc::out_of_memory ||
                    !report.add(std::move(opened).error()))
                    return false;
                continue;
            }
            if (!note_file(*opened, report)) return false;
            for (std::size_t at = 0; found.files.size() > 1 && at < opened->size(); ++at) {
                const std::string_view name = (*opened)[at].name;
                const std::uint32_t number = static_cast<std::uint32_t>(tensors.size());
                if (!tensors.push({names.size(), static_cast<std::uint32_t>(name.size()),
                                   static_cast<std::uint32_t>(f)}) ||
                    !names.append(name.data(), name.size()))
                    return false;
                const auto added = table.insert(name, number, seen_name);
                if (added.what == detail::name_table::outcome::out_of_memory) return false;
                if (added.what == detail::name_table::outcome::already_there &&
                    !report.add(in_two_shards(name, found.files[f],
                                              found.files[tensors[added.index].file])))
                    return false;
            }
        }
        return true;
    }

    basic_checkpoint() noexcept = default;

    vector<tables>
        tables_;  // one, or none after a move; a list's elements stay where they are when it moves
};

/// A checkpoint whose files are mapped: views are free.
///   caution   as mapped_file, and for the shard index while it is opened
using checkpoint = basic_checkpoint<mapped_file>;
/// A checkpoint whose files are read by offset.
using positional_checkpoint = basic_checkpoint<positional_file>;

static_assert(tensor_set<checkpoint> && tensor_set<positional_checkpoint>);

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
