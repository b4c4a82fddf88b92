// SPDX-License-Identifier: BSD-2-Clause
// Chooses what the differential test does next.
// Always holds: the choice follows from the seed and from what the TPMs answered; what is chosen is
// an operation that a script can hold.
#pragma once

#include <random>

#include "differential_world.h"

namespace spaces::test {

class Generator {
  public:
    explicit Generator(std::seed_seq& seed) : random_(seed) {}

    /// The next operations, of which all but the last are to be fetched later.
    Script next(const World& world);

  private:
    using Choice = void (Generator::*)(Operation&);

    size_t below(size_t limit) { return random_() % limit; }
    bool oneIn(size_t count) { return below(count) == 0; }
    template <class T>
    T oneOf(std::initializer_list<T> choice) {
        return *(choice.begin() + below(choice.size()));
    }

    Operation choose(size_t space);
    void start(Operation& operation);
    bool isFull() const;
    void chooseVerb(Operation& operation);
    void object(Operation& operation);
    void use(Operation& operation);
    void sequence(Operation& operation);
    void policy(Operation& operation);
    void context(Operation& operation);
    void flush(Operation& operation);
    void question(Operation& operation);
    void pcrOrNv(Operation& operation);
    void evict(Operation& operation);
    void hierarchy(Operation& operation);

    /// A label or handle of an object, mostly of one that the verb can use.
    int64_t any(const std::vector<Shape>& shapes);
    int64_t anySession(bool (*wanted)(const Thing&));
    int64_t anyContext();
    std::vector<int> savedSessions() const;
    std::vector<int> labels(const std::function<bool(const Thing&)>& wanted) const;

    bool wouldFailTheTpm(const Operation& operation) const;
    void addSessions(Operation& operation);
    void spoil(Operation& operation);

    std::mt19937_64 random_;
    const World* world_ = nullptr;
    size_t space_ = 0;
    int label_ = 0;
    bool noObject_ = false, noSession_ = false;  ///< that the operation could use
};

}  // namespace spaces::test
