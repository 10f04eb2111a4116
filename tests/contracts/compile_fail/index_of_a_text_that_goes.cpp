#include <safefuse/core/vector.hpp>
#include <safefuse/format/shard_index.hpp>

namespace sf = safefuse;

sf::vector<std::byte> downloaded(std::string_view url);

std::size_t shards(std::string_view url) {
#ifdef SAFEFUSE_FAIL
    const auto index = sf::shard_index::parse(downloaded(url));
#else
    const auto json = downloaded(url);
    const auto index = sf::shard_index::parse(json);
#endif
    return index ? index->file_count() : 0;
}
