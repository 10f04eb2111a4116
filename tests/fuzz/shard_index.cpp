// The text of a shard index: every accepted name stays inside its directory and is found again, and
// the index can be written and parsed again.
#include "fuzz.hpp"

#include <algorithm>
#include <vector>

#include <safefuse/format/shard_index.hpp>

namespace sf = safefuse;

namespace {

/// Independent of check_contained: no root, no drive, no component that some system takes for "..".
bool stays_inside(std::string_view file) {
    if (!file.ends_with(".safetensors") || file.find_first_of(std::string_view{"/\\"}) == 0)
        return false;
    if (file.size() > 1 && file[1] == ':' &&
        std::string_view{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"}.find(file[0]) !=
            file.npos)
        return false;
    for (const char c : file)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return false;
    for (std::size_t at = 0; at <= file.size();) {
        const std::size_t end =
            std::min(file.find_first_of(std::string_view{"/\\"}, at), file.size());
        std::string component{file.substr(at, end - at)};
        // ". ." too: its meaning on Windows is uncertain
        if (std::count(component.begin(), component.end(), '.') >= 2 &&
            component.find_first_not_of(". ") == component.npos)
            return false;
        at = end + 1;
    }
    return true;
}

void hold_index(const sf::shard_index& index) {
    for (std::size_t i = 0; i < index.size(); ++i) {
        FUZZ_HOLD(index.file_of(i) < index.file_count());
        FUZZ_HOLD(index.find(index.tensor(i)) == index.file_of(i));
        const std::string other = std::string{index.tensor(i)} + '!';
        bool is_there = false;
        for (std::size_t j = 0; j < index.size() && j < 64; ++j)
            is_there = is_there || index.tensor(j) == other;
        FUZZ_HOLD(index.size() > 64 || (index.find(other) != sf::shard_index::npos) == is_there);
    }
    for (std::size_t f = 0; f < index.file_count(); ++f) {
        const std::string_view file = index.file(f);
        FUZZ_HOLD(sf::check_contained(file).has_value() && stays_inside(file));
        for (const std::size_t g : {std::size_t{0}, f / 2, f - 1})
            FUZZ_HOLD(
                f == 0 || g >= f ||
                (sf::natural_less(index.file(g), file) && !sf::natural_less(file, index.file(g))));
        sf::series_name parts;
        if (!sf::parse_series(file, parts) || parts.count == 1) continue;
        sf::series_name again;
        const sf::text spelled = sf::shard_name(parts.stem, parts.number, parts.count);
        FUZZ_HOLD(sf::parse_series(spelled, again));
        FUZZ_HOLD(again.stem == parts.stem && again.number == parts.number &&
                  again.count == parts.count);
    }
}

bool same(const sf::shard_index& a, const sf::shard_index& b) {
    if (a.size() != b.size() || a.total_size_bytes() != b.total_size_bytes()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const std::size_t file = b.find(a.tensor(i));
        if (file == sf::shard_index::npos || b.file(file) != a.file(a.file_of(i))) return false;
    }
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input{reinterpret_cast<const char*>(data), size};
    const auto json = fuzz::bytes_of(input);
    sf::vector<sf::failure> problems;
    const auto index = sf::shard_index::parse(json);
    const auto tolerant = sf::shard_index::parse(json, problems);
    FUZZ_HOLD(!index.has_value() ||
              (tolerant.has_value() && problems.empty() && same(*index, *tolerant) &&
               index->file_count() == tolerant->file_count()));
    FUZZ_HOLD(index.has_value() || !tolerant.has_value() || !problems.empty());
    FUZZ_HOLD(sf::check_contained(input).has_value() == stays_inside(input));
    for (const sf::failure& each : problems) FUZZ_HOLD(each.message().size() > 0);
    if (tolerant) hold_index(*tolerant);
    if (!tolerant) return 0;
    std::vector<sf::shard_entry> entries;
    for (std::size_t i = 0; i < tolerant->size(); ++i)
        entries.push_back({tolerant->tensor(i), tolerant->file(tolerant->file_of(i))});
    const auto written = sf::encode_index(entries, tolerant->total_size_bytes());
    FUZZ_HOLD(written.has_value());
    const auto again = sf::shard_index::parse(written->view());
    FUZZ_HOLD(again.has_value() && same(*tolerant, *again));
    // a file that only a refused line names still counts as a file of the index
    FUZZ_HOLD(again->file_count() == tolerant->file_count() ||
              (!problems.empty() && again->file_count() < tolerant->file_count()));
    return 0;
}
